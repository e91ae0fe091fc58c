import numpy as np
import pytest
from safetensors.numpy import load_file

from retrieval.encoders.sentence_tower import PROJECTION
from retrieval.errors import CaptionsError
from retrieval.train import multilingual as room
from retrieval.train.multilingual import linear_map, names_of_things, write_multilingual


def test_a_linear_map_is_found_again():
    chance = np.random.default_rng(0)
    sources, wanted, weights = chance.normal(size=(50, 4)), chance.normal(size=(3, 4)), chance.uniform(1, 2, 50)
    found = linear_map(sources, sources @ wanted.T, weights, ridge=1e-9)
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_ridge_by_hand():
    """One pair: W = a t s' / (a s's + ridge), here with s's = 1 and a = 3."""
    found = linear_map(np.array([[0.6, 0.8]]), np.array([[1.0, 0.0, -1.0]]), np.array([3.0]), ridge=1.0)
    np.testing.assert_allclose(found, [[0.45, 0.6], [0, 0], [-0.45, -0.6]], atol=1e-6)


def test_learns_from_a_caption_of_each_photo_and_from_names(tmp_path, monkeypatch):
    captions = tmp_path / "photos.tsv"
    captions.write_text(
        "split\timage\tcaption\ntrain\ta.jpg\ta dog\ntrain\ta.jpg\tanother one\ntest\tb.jpg\ta cat\n"
        "train\tc.jpg\ta tree\n"
    )
    monkeypatch.setattr(room, "names_of_things", lambda: ["boat", "anchor"])
    monkeypatch.setattr(room, "NAMES_STEP", 2)
    asked = []

    def sentences(texts):
        asked.extend(texts)
        return np.eye(3, dtype=np.float32)  # each text has a dimension of its own

    def builtin(texts):
        return np.array([[text.count("a"), len(text)] for text in texts], np.float32)

    found = write_multilingual(captions, "train", tmp_path / "map.safetensors", sentences, builtin)
    assert asked == ["a dog", "a tree", "boat"]
    shrunk = np.array([1, 1, room.NAMES_WEIGHT])
    shrunk = shrunk / (shrunk + room.RIDGE)
    np.testing.assert_allclose(found, np.array([[1, 1, 1], [5, 6, 4]]) * shrunk, atol=1e-6)
    np.testing.assert_array_equal(load_file(tmp_path / "map.safetensors")[PROJECTION], found)


def test_names_are_many_and_common_words_are_among_them():
    names = names_of_things()
    assert len(names) == len(set(names)) > 21_000 and {"otter", "umbrella", "lighthouse", "coffee"} <= set(names)


def test_a_split_that_is_not_there(tmp_path):
    captions = tmp_path / "photos.tsv"
    captions.write_text("split\timage\tcaption\ntrain\ta.jpg\ta dog\n")
    with pytest.raises(CaptionsError):
        write_multilingual(captions, "validation", tmp_path / "map", lambda texts: None, lambda texts: None)
