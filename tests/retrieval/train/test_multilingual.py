import numpy as np
import pytest
from safetensors.numpy import load_file

from retrieval.encoders.sentence_tower import PROJECTION
from retrieval.errors import CaptionsError
from retrieval.train import multilingual as room
from retrieval.train.multilingual import linear_map, write_multilingual


def test_a_linear_map_is_found_again():
    chance = np.random.default_rng(0)
    sources, wanted = chance.normal(size=(50, 4)), chance.normal(size=(3, 4))
    found = linear_map(sources, sources @ wanted.T, ridge=1e-9)
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_ridge_by_hand():
    """One pair: W = t s' / (s's + ridge), here with s's = 1."""
    found = linear_map(np.array([[0.6, 0.8]]), np.array([[1.0, 0.0, -1.0]]), ridge=1.0)
    np.testing.assert_allclose(found, [[0.3, 0.4], [0, 0], [-0.3, -0.4]], atol=1e-6)


def test_learns_from_a_caption_of_each_photo_and_from_short_texts(tmp_path, monkeypatch):
    captions = tmp_path / "photos.tsv"
    captions.write_text(
        "split\timage\tcaption\ntrain\ta.jpg\ta dog\ntrain\ta.jpg\tanother one\ntest\tb.jpg\ta cat\n"
        "train\tc.jpg\ta tree\n"
    )
    monkeypatch.setattr(room, "generic_queries", lambda: ["boat"])
    asked = []

    def sentences(texts):
        asked.extend(texts)
        return np.eye(len(texts), dtype=np.float32)  # each text has a dimension of its own

    def builtin(texts):
        return np.array([[text.count("a"), len(text)] for text in texts], np.float32)

    found = write_multilingual(captions, "train", tmp_path / "map.safetensors", sentences, builtin)
    assert asked[:5] == ["a dog", "a tree", "boat", "a photo of a tench", "a photo of a goldfish"]
    assert len(asked) == 1003
    np.testing.assert_allclose(found[:, :3], np.array([[1, 1, 1], [5, 6, 4]]) / (1 + room.RIDGE), atol=1e-6)
    np.testing.assert_array_equal(load_file(tmp_path / "map.safetensors")[PROJECTION], found)


def test_a_split_that_is_not_there(tmp_path):
    captions = tmp_path / "photos.tsv"
    captions.write_text("split\timage\tcaption\ntrain\ta.jpg\ta dog\n")
    with pytest.raises(CaptionsError):
        write_multilingual(captions, "validation", tmp_path / "map", lambda texts: None, lambda texts: None)
