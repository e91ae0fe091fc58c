"""The built-in encoder: sees, reads, and needs no network."""

import numpy as np
import open_clip
import pytest
import torch

from retrieval.encoders import builtin, load_encoder
from retrieval.errors import WeightsError
from retrieval.images import open_image


def test_words_find_the_right_photos(builtin_encoder, sample_photos):
    images = builtin_encoder.encode_images([open_image(path)[0] for path in sample_photos])
    names = [path.name for path in sample_photos]
    for text, name in {
        "a cat": "chelsea.png", "a motorcycle": "motorcycle_left.png", "a flower": "flower.jpg",
        "grass": "grass.png", "a horse": "horse.png", "a man with a camera": "camera.png",
    }.items():
        scores = images @ builtin_encoder.encode_texts([text])[0]
        assert names[int(scores.argmax())] == name, text


def test_short_padding_changes_nothing(builtin_encoder):
    """Texts are cut to the longest of their batch; open_clip pads all to the context length."""
    texts = ["dog", "a child in a red coat jumps over a puddle while two dogs watch from the grass"]
    model = builtin_encoder._model
    with torch.inference_mode():
        padded = model.encode_text(builtin_encoder._tokenize(texts), normalize=True).numpy()
    np.testing.assert_allclose(builtin_encoder.encode_texts(texts), padded, atol=1e-5)


def test_runs_in_float32_by_itself(builtin_encoder):
    assert builtin_encoder.dtype == torch.float32
    assert load_encoder("builtin", device="cpu", precision="bfloat16").dtype == torch.bfloat16


def test_is_an_ordinary_open_clip_model(builtin_encoder):
    assert isinstance(builtin_encoder._model, open_clip.CustomTextCLIP)


def test_missing_projections_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(builtin, "TRAINED_FILE", tmp_path / "trained.safetensors")
    with pytest.raises(WeightsError, match="trained.safetensors is missing. Install again"):
        builtin.load_model()


def test_projections_of_another_model_are_refused(monkeypatch, tmp_path):
    from safetensors.torch import save_file

    save_file({"visual.head.proj.weight": torch.zeros(2, 2)}, tmp_path / "trained.safetensors")
    monkeypatch.setattr(builtin, "TRAINED_FILE", tmp_path / "trained.safetensors")
    with pytest.raises(WeightsError, match="does not fit"):
        builtin.load_model()
