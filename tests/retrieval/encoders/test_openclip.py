"""open_clip models as encoders: the same vectors as open_clip itself, in the agreed shape."""

import json
import logging
import shutil

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from retrieval.encoders import load_encoder, openclip, precision
from retrieval.encoders.loading import load_local
from retrieval.encoders.openclip import OpenClipEncoder
from retrieval.errors import EncoderError
from retrieval.types import Encoder

TEXTS = ["a dog", "two children on a beach, one of them running", "Red CAR!"]


@pytest.fixture
def pictures(sample_photos):
    return [Image.open(path).convert("RGB") for path in sample_photos[:5]]


def test_is_an_encoder(tiny_encoder):
    assert isinstance(tiny_encoder, Encoder)
    assert tiny_encoder.dim == 32


def test_same_vectors_as_open_clip(tiny_encoder, tiny_model, pictures):
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tiny_model}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{tiny_model}")
    with torch.inference_mode():
        images = model.eval().encode_image(torch.stack([preprocess(one) for one in pictures]), normalize=True)
        texts = model.encode_text(tokenize(TEXTS), normalize=True)
    exact = load_encoder(str(tiny_model), device="cpu", precision="float32", exact_preprocess=True)
    np.testing.assert_allclose(exact.encode_images(pictures), images, atol=2e-6)
    np.testing.assert_allclose(tiny_encoder.encode_texts(TEXTS), texts, atol=2e-6)


def test_vectors_are_unit_float32_rows(tiny_encoder, pictures):
    for vectors in (tiny_encoder.encode_images(pictures), tiny_encoder.encode_texts(TEXTS)):
        assert vectors.dtype == np.float32 and vectors.flags.c_contiguous
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_nothing_in_nothing_out(tiny_encoder):
    assert tiny_encoder.encode_texts([]).shape == (0, 32)
    assert tiny_encoder.encode_images([]).shape == (0, 32)


def test_preparing_apart_changes_nothing(tiny_encoder, pictures):
    prepared = [tiny_encoder.prepare(one) for one in pictures]
    np.testing.assert_array_equal(
        tiny_encoder.encode_prepared(prepared), tiny_encoder.encode_images(pictures)
    )


def test_many_texts_come_back_in_order(tiny_encoder):
    texts = [f"{'word ' * (number % 9)}{number}" for number in range(300)]  # more than one batch
    together = tiny_encoder.encode_texts(texts)
    for number in (0, 1, 255, 256, 299):
        np.testing.assert_allclose(together[number], tiny_encoder.encode_texts([texts[number]])[0], atol=1e-5)


def test_fingerprint_tells_weights_apart(tiny_encoder, other_model, tiny_model, tmp_path):
    other = load_encoder(str(other_model), precision="float32")
    again = load_encoder(str(shutil.copytree(tiny_model, tmp_path / "copy")), precision="float32")
    assert again.fingerprint == tiny_encoder.fingerprint
    parts, others = tiny_encoder.fingerprint.split("-"), other.fingerprint.split("-")
    assert [one == two for one, two in zip(parts, others)] == [False, True, True]


@pytest.mark.parametrize(
    ("section", "key", "value", "same"),
    [
        ("preprocess_cfg", "resize_mode", "squash", [True, False, True]),
        ("preprocess_cfg", "mean", [0.5, 0.5, 0.5], [True, False, True]),
    ],
)
def test_fingerprint_tells_preprocessing_apart(tiny_encoder, tiny_model, tmp_path, section, key, value, same):
    folder = shutil.copytree(tiny_model, tmp_path / "changed")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config[section][key] = value
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    changed = load_encoder(str(folder), precision="float32").fingerprint.split("-")
    assert [one == two for one, two in zip(tiny_encoder.fingerprint.split("-"), changed)] == same


def test_fingerprint_tells_tokenizers_apart(tiny_model):
    loaded = load_local("tiny", tiny_model)
    lower = OpenClipEncoder(loaded, device="cpu", precision="float32")
    raw = openclip.DualEncoder("tiny", loaded.model, open_clip.SimpleTokenizer(context_length=16, clean="whitespace"))
    changed = OpenClipEncoder(raw, device="cpu", precision="float32")
    parts = zip(lower.fingerprint.split("-"), changed.fingerprint.split("-"))
    assert [one == two for one, two in parts] == [True, True, False]


def test_bfloat16_agrees_and_has_the_same_fingerprint(tiny_encoder, tiny_model, pictures):
    half = load_encoder(str(tiny_model), device="cpu", precision="bfloat16")
    assert half.dtype == torch.bfloat16
    assert half.fingerprint == tiny_encoder.fingerprint
    for one, two in ((half.encode_images(pictures), tiny_encoder.encode_images(pictures)),
                     (half.encode_texts(TEXTS), tiny_encoder.encode_texts(TEXTS))):
        assert (one * two).sum(axis=1).min() > 0.999
        np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-6)


@pytest.fixture
def fast_hardware(monkeypatch, tmp_path):
    """A machine that multiplies bfloat16, and whose user never ran this before."""
    monkeypatch.setattr(precision, "fast_dtype", lambda device: torch.bfloat16)
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "precision.json"


def test_first_load_checks_bfloat16_and_remembers(fast_hardware, tiny_model, monkeypatch, tiny_encoder):
    encoder = load_encoder(str(tiny_model), device="cpu")
    assert encoder.dtype == torch.bfloat16
    (key, cosine), = json.loads(fast_hardware.read_text()).items()
    assert key.startswith(tiny_encoder.fingerprint) and 0.999 <= cosine <= 1.00001

    def measured_again(*_):
        raise AssertionError("measured twice")

    monkeypatch.setattr(openclip, "agreement", measured_again)
    assert load_encoder(str(tiny_model), device="cpu").dtype == torch.bfloat16


def test_poor_agreement_falls_back_with_a_warning(
    fast_hardware, tiny_model, tiny_encoder, pictures, monkeypatch, caplog
):
    monkeypatch.setattr(openclip, "agreement", lambda *_: 0.98)
    with caplog.at_level(logging.WARNING, logger="retrieval"):
        encoder = load_encoder(str(tiny_model), device="cpu")
    assert "runs in float32 here: in bfloat16 its vectors agree only to cosine 0.9800" in caplog.text
    assert encoder.dtype == torch.float32
    # not float32 rounded through bfloat16: the very vectors
    np.testing.assert_array_equal(encoder.encode_images(pictures), tiny_encoder.encode_images(pictures))


def test_non_finite_vectors_are_refused(tiny_model, pictures):
    loaded = load_local("broken", tiny_model)
    encoder = OpenClipEncoder(loaded, device="cpu", precision="float32")
    loaded.model.visual.proj.data[:] = float("nan")
    with pytest.raises(EncoderError, match="broken gave non-finite vectors"):
        encoder.encode_images(pictures)


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (30, 6_000)])
def test_long_strips_are_seen_by_their_middle(tiny_encoder, size, monkeypatch):
    width, height = size
    strip = Image.linear_gradient("L").resize(size).convert("RGB")
    short, long = min(size), 20 * min(size)
    cut = (short, long) if height > width else (long, short)
    left, top = (width - cut[0]) // 2, (height - cut[1]) // 2
    middle = strip.crop((left, top, left + cut[0], top + cut[1]))
    seen = []
    monkeypatch.setattr(tiny_encoder, "_transform", lambda image, own=tiny_encoder._transform: (
        seen.append(image.size), own(image))[1])
    np.testing.assert_array_equal(tiny_encoder.encode_images([strip]), tiny_encoder.encode_images([middle]))
    assert seen == [cut, cut]
