"""Captioned pictures, and a text tower of Hugging Face's that is small enough for tests."""

import io

import pytest

from retrieval.images import open_image
from retrieval.train.pairs import Pairs, Photo


@pytest.fixture(scope="session")
def quarters(sample_photos):
    """Quarters of 18 real photos, named after where they were cut, two captions each."""
    photos, captions = [], []
    for path in sample_photos[:18]:
        image, _ = open_image(path)
        for left in (0, 1):
            for top in (0, 1):
                width, height = image.width // 2, image.height // 2
                quarter = image.crop((left * width, top * height, (left + 1) * width, (top + 1) * height))
                buffer = io.BytesIO()
                quarter.resize((64, 64)).save(buffer, "JPEG")
                photos.append(Photo(f"{path.stem}-{left}{top}.jpg", lambda content=buffer.getvalue(): content))
                where = f"the {'lower' if top else 'upper'} {'right' if left else 'left'} part"
                captions.append([f"{where} of {path.stem}", f"{path.stem}, {where}"])
    return Pairs(photos, captions, missing=0)


@pytest.fixture(scope="session")
def write_tiny_bert():
    """write_tiny_bert(folder): a model with random weights and the packaged tokenizer, which it returns."""
    import torch
    from transformers import BertConfig, BertModel

    from retrieval.encoders.towers import text_tower_folder

    def write(folder):
        torch.manual_seed(6)
        model = BertModel(BertConfig(
            vocab_size=30522, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
            max_position_embeddings=64,
        ), add_pooling_layer=False)
        model.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            (folder / name).write_bytes((text_tower_folder() / name).read_bytes())
        return model

    return write
