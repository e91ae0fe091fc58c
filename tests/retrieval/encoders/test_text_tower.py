"""The numpy text tower is the built-in encoder's."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from retrieval import encoders
from retrieval.encoders import packages, text_tower
from retrieval.manifest import EncoderRecord

TEXTS = [
    "dog", "A photo of a Dog, running!", "naïve café — 12,345 km²  (double  spaces)", "一只狗在雪地里奔跑",
    "собака бежит", "word " * 200, "salt &amp;amp; pepper", "schÃ¶n", "a [PAD] in the middle", "☃",
    "two dogs are watching a child in a red coat jump over a puddle",
]


@pytest.fixture(scope="module")
def tower(builtin_encoder):
    return text_tower.load_text_tower(builtin_encoder.fingerprint)


def test_vectors_are_the_encoders(tower, builtin_encoder):
    vectors = tower.encode_texts(TEXTS)
    assert vectors.dtype == np.float32 and tower.dim == builtin_encoder.dim
    np.testing.assert_allclose(vectors, builtin_encoder.encode_texts(TEXTS), atol=1e-6)


def test_texts_are_cleaned_as_open_clip_cleans_them():
    from open_clip.tokenizer import get_clean_fn

    cleaned = get_clean_fn("whitespace")
    for text in [*TEXTS, *(f" a{chr(code)}  b{chr(code)};" for code in range(1, 400)), "&lt;b&gt; \r\n x"]:
        assert text_tower._clean(text) == cleaned(text), repr(text)


def test_a_batch_says_what_each_text_says_alone(tower, monkeypatch):
    alone = np.concatenate([tower.encode_texts([text]) for text in TEXTS])
    monkeypatch.setattr(text_tower, "BATCH", 4)
    np.testing.assert_allclose(tower.encode_texts(TEXTS), alone, atol=1e-6)
    assert tower.encode_texts([]).shape == (0, tower.dim)


def test_the_recorded_fingerprint_is_the_encoders(builtin_encoder):
    """After training again: write the new fingerprint and sums into builtin/fingerprint.json."""
    assert text_tower.published() == {
        "fingerprint": builtin_encoder.fingerprint,
        "trained.safetensors": packages.sha256(text_tower.FOLDER / "trained.safetensors"),
        "tokenizer.json": packages.sha256(packages.text_tower_file().parent / "tokenizer.json"),
    }


def test_gelu_by_its_definition():
    x = np.linspace(-6, 6, 1001, dtype=np.float32)
    exact = [value * (1 + math.erf(value / 2**0.5)) / 2 for value in x.tolist()]
    assert text_tower._gelu(x).dtype == np.float32
    np.testing.assert_allclose(text_tower._gelu(x), exact, atol=1e-6)


def test_no_tower_for_another_encoder_or_another_way_to_run(builtin_encoder):
    record = EncoderRecord("builtin", 512, builtin_encoder.fingerprint)
    load = encoders.load_recorded_text_tower
    assert load(record).fingerprint == builtin_encoder.fingerprint
    assert load(record, device="cuda") is None and load(record, precision="bfloat16") is None
    assert load(EncoderRecord("builtin", 512, "of an older version")) is None
    assert load(EncoderRecord("ViT-B-32/openai", 512, builtin_encoder.fingerprint)) is None


@pytest.mark.parametrize("altered", ["trained.safetensors", "tokenizer.json"])
def test_no_tower_from_altered_files(builtin_encoder, monkeypatch, altered):
    known = {**text_tower.published(), altered: "0" * 64}
    monkeypatch.setattr(text_tower, "published", lambda: dict(known))
    assert text_tower.load_text_tower(builtin_encoder.fingerprint) is None


def test_no_tower_without_its_package(builtin_encoder, monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda package: None)
    assert text_tower.load_text_tower(builtin_encoder.fingerprint) is None


def test_loads_no_torch(builtin_encoder):
    code = f"""if True:
        import json, sys
        from retrieval.encoders import load_recorded_text_tower
        from retrieval.manifest import EncoderRecord
        tower = load_recorded_text_tower(EncoderRecord("builtin", 512, {builtin_encoder.fingerprint!r}))
        tower.encode_texts(["a dog"])
        print(json.dumps(sorted({{"torch", "open_clip", "transformers", "timm"}} & set(sys.modules))))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
