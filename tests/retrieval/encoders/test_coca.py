"""Captions by a CoCa model: a small one with random weights, so that they are words, if not sense."""

import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from retrieval.encoders import coca, load_encoder

CONFIG = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 8,
                       "attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 8,
                       "output_tokens": True},
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1,
                     "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1,
                           "attn_pooler_heads": 2},
        "custom_text": True,
    },
    "preprocess_cfg": {"resize_mode": "squash"},
}


@pytest.fixture(scope="module")
def coca_model(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "coca"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    configuration = {name: part for name, part in CONFIG["model_cfg"].items() if name != "custom_text"}
    save_file(open_clip.CoCa(**configuration).state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def encoder(coca_model, cache_folder):
    return load_encoder(str(coca_model), device="cpu", precision="float32")


def test_writes_words_about_images(encoder):
    red, blue = Image.new("RGB", (40, 30), "red"), Image.new("RGB", (40, 30), "blue")
    assert encoder.writes_captions
    captions = encoder.write_captions([red, blue])
    assert len(captions) == 2 and all(caption and caption == " ".join(caption.split()) for caption in captions)
    assert encoder.write_captions([blue]) == captions[1:]
    # what was written is a text like any other
    assert np.linalg.norm(encoder.encode_texts(captions), axis=1) == pytest.approx([1, 1], abs=1e-5)
    positions, _ = encoder.relevance(red, encoder.encode_texts(captions)[0])
    assert positions.shape == (4, 4)


def test_models_without_a_decoder_write_nothing(tiny_encoder, builtin_encoder):
    assert not tiny_encoder.writes_captions and not builtin_encoder.writes_captions


class Scripted(torch.nn.Module):
    """Decodes [1, 2, 3][image] further tokens 5, then ends; would rather begin anew, pad, or end at once."""

    pad_id, context_length = 0, 8

    def __init__(self, lengths):
        super().__init__()
        self.lengths = lengths

    def forward(self, image, text=None, **more):
        if text is None:
            return {"image_features": image, "image_embs": image}
        logits = torch.zeros(len(text), text.shape[1], 8)
        logits[:, -1, 5] = 1.0
        for row, length in enumerate(self.lengths):
            if text.shape[1] > length or text.shape[1] == 1:
                logits[row, -1, 7] = 2.0  # end
        logits[:, -1, [0, 6]] = 3.0  # pad, start
        return {"logits": logits}


class Letters:
    sot_token_id, eot_token_id = 6, 7

    def decode(self, tokens):
        return "".join("abcdefgh"[token] + " " for token in tokens)


def test_the_likeliest_tokens_until_the_end():
    written = coca.write(Scripted([1, 2, 3]), Letters(), torch.zeros(3, 3, 4, 4))
    assert written == ["f", "f f", "f f f"]


def test_never_longer_than_the_models_context():
    assert coca.write(Scripted([99]), Letters(), torch.zeros(1, 3, 4, 4)) == ["f f f f f f f"]
