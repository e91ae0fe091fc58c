"""A text tower of Hugging Face's that is small enough for tests."""

import pytest


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
