import numpy as np
import pytest

from benchmarks.collections import indexed, made_up, make_up, mixtures, random_units
from benchmarks.photos import photos
from retrieval.collection import Collection
from retrieval.manifest import EncoderRecord


def test_a_made_up_collection_finds_its_own_vectors(tmp_path):
    path = made_up(tmp_path, 60)
    vectors = random_units(60, seed=0)
    with Collection.open(path) as collection:
        assert len(collection) == 60
        np.testing.assert_allclose(collection.vectors.take(np.arange(60)), vectors, atol=5e-4)
        hits = collection.search_vectors(["a", "b"], vectors[[7, 41]], 1)
    assert [(hit.id, hit.path) for hit in hits] == [("7", "/photos/0000007.jpg"), ("41", "/photos/0000041.jpg")]
    assert made_up(tmp_path, 60) == path


def test_mixtures_lie_between_two_of_what_they_are_like():
    like = np.eye(64, dtype=np.float32)[:8]
    rows = mixtures(500, like, seed=3)
    assert rows.shape == (500, 64) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    inside = np.linalg.norm(rows[:, :8], axis=1)  # the noise is the other leg, but for what falls inside
    assert np.median(inside) == pytest.approx(1 / np.hypot(1, 0.4), abs=0.03)
    assert np.median(np.sort(rows[:, :8], axis=1)[:, -3]) < 0.15  # of the others there is noise alone
    np.testing.assert_array_equal(rows, mixtures(500, like, seed=3))


def test_as_if_an_encoder_had_made_it(tmp_path, tiny_encoder):
    record = EncoderRecord(tiny_encoder.name, tiny_encoder.dim, tiny_encoder.fingerprint)
    make_up(tmp_path / "a.collection", 5, record)
    with Collection.open(tmp_path / "a.collection", encoder=tiny_encoder) as collection:
        assert sorted(hit.id for hit in collection.search("a cat", 5)) == ["0", "1", "2", "3", "4"]


def test_what_another_version_left_is_made_anew(tmp_path, tiny_encoder):
    path = tmp_path / "photos.collection"
    path.mkdir()
    (path / "manifest.json").write_text("{}")
    indexed(photos(tmp_path, 32, 32, 2), path, tiny_encoder.name)
    with Collection.open(path) as collection:
        assert len(collection) == 2
