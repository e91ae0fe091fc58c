"""The text half of `builtin-multilingual`: translations lie close together, and no torch is needed."""

import json
import subprocess
import sys

import numpy as np
import pytest

from retrieval import encoders
from retrieval.encoders import packages, sentence_tower, text_tower
from retrieval.errors import WeightsError
from retrieval.manifest import EncoderRecord

pytest.importorskip(packages.SENTENCES, reason="the extra [multilingual] is not installed")

SENTENCES = {
    "en": ["a dog runs through the snow", "two children eat ice cream", "a red car in the street", "a man plays guitar"],
    "zh": ["一只狗在雪地里奔跑", "两个孩子在吃冰淇淋", "街上的一辆红色汽车", "一个男人在弹吉他"],
    "es": ["un perro corre por la nieve", "dos niños comen helado", "un coche rojo en la calle", "un hombre toca la guitarra"],
    "de": ["ein Hund läuft durch den Schnee", "zwei Kinder essen Eis", "ein rotes Auto auf der Straße", "ein Mann spielt Gitarre"],
    "fr": ["un chien court dans la neige", "deux enfants mangent une glace", "une voiture rouge dans la rue", "un homme joue de la guitare"],
}


@pytest.fixture(scope="module")
def tower():
    return sentence_tower.SentenceTower()


@pytest.mark.parametrize("language", ["zh", "es", "de", "fr"])
def test_translations_lie_close_together(tower, language):
    scores = tower.encode_texts(SENTENCES[language]) @ tower.encode_texts(SENTENCES["en"]).T  # (4, 4)
    others = scores[~np.eye(4, dtype=bool)]
    assert scores.diagonal().min() > others.max() + 0.2


def test_english_lies_where_the_built_in_encoder_puts_it(tower):
    builtin = text_tower.load_text_tower(text_tower.published()["fingerprint"])
    scores = tower.encode_texts(SENTENCES["en"]) @ builtin.encode_texts(SENTENCES["en"]).T
    assert scores.diagonal().min() > 0.6 and scores.argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_rows_are_of_unit_length_and_do_not_depend_on_their_batch(tower):
    texts = [*SENTENCES["de"], "", "☃", "  Ein   Hund\nläuft durch den Schnee ", "word " * 3000]
    vectors = tower.encode_texts(texts)
    assert vectors.dtype == np.float32 and vectors.shape == (8, tower.dim) and vectors.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    alone = np.concatenate([tower.encode_texts([text]) for text in texts])
    np.testing.assert_allclose(vectors, alone, atol=1e-5)
    assert tower.encode_texts([]).shape == (0, tower.dim)


def test_white_space_and_what_is_far_behind_do_not_matter(tower):
    plain, spaced, long, longer = tower.encode_texts(["a dog", " a \n dog ", "a dog " * 1000, "a dog " * 5000])
    np.testing.assert_array_equal(plain, spaced)
    np.testing.assert_array_equal(long, longer)


def test_loads_no_torch():
    code = """if True:
        import json, sys
        from retrieval.encoders import load_recorded_text_tower
        from retrieval.encoders.sentence_tower import fingerprint
        from retrieval.encoders.text_tower import published
        from retrieval.manifest import EncoderRecord
        record = EncoderRecord("builtin-multilingual", 512, fingerprint(published()["fingerprint"]))
        vector, = load_recorded_text_tower(record).encode_texts(["un perro"])
        print(json.dumps([len(vector), sorted({"torch", "open_clip", "transformers", "timm"} & set(sys.modules))]))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [512, []]


def test_no_tower_for_another_encoder_or_another_way_to_run(tower):
    load = encoders.load_recorded_text_tower
    record = EncoderRecord("builtin-multilingual", 512, tower.fingerprint)
    assert load(record).fingerprint == tower.fingerprint
    assert load(record, device="cuda") is None and load(record, precision="bfloat16") is None
    assert load(EncoderRecord("builtin-multilingual", 512, "of an older version")) is None


def test_the_fingerprint_tells_what_the_vectors_depend_on(tower, monkeypatch, tmp_path):
    builtin = text_tower.published()["fingerprint"]
    assert tower.fingerprint == sentence_tower.fingerprint(builtin)
    weights, preprocessing, tokenizer = builtin.split("-")
    assert tower.fingerprint.split("-")[1] == preprocessing
    others = {sentence_tower.fingerprint(f"0{weights[1:]}-{preprocessing}-{tokenizer}")}
    altered = tmp_path / "multilingual.safetensors"
    altered.write_bytes(sentence_tower.PROJECTION_FILE.read_bytes() + b" ")
    monkeypatch.setattr(sentence_tower, "PROJECTION_FILE", altered)
    others.add(sentence_tower.fingerprint(builtin))
    assert len(others | {tower.fingerprint}) == 3


def test_a_missing_projection_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sentence_tower, "PROJECTION_FILE", tmp_path / "multilingual.safetensors")
    with pytest.raises(WeightsError, match="multilingual.safetensors is missing. Install again"):
        sentence_tower.SentenceTower()
