from functools import partial

import numpy as np
import pytest

from indexes import exact_search
from retrieval.images import open_image
from retrieval.rank.relevance import RelevanceModel, background, background_vectors, relevance_model


def test_it_is_the_share_of_captions_that_reach_less():
    model = RelevanceModel(np.array([0.1, 0.2, 0.3, 0.4]))
    assert model.of([0.05, 0.2, 0.25, 0.5]).tolist() == [0, 0.25, 0.5, 1]


def test_the_best_scores_are_those_of_exact_search(tiny_encoder):
    vectors = tiny_encoder.encode_texts(["a cat", "a dog", "a house"]).astype(np.float16)
    model = relevance_model(partial(exact_search, vectors), tiny_encoder)
    scores = tiny_encoder.encode_texts(background()) @ vectors.astype(np.float32).T
    np.testing.assert_allclose(model.best, np.sort(scores.max(1)), atol=1e-3)


def test_the_background_is_encoded_once(tiny_encoder, cache_folder, monkeypatch):
    first = background_vectors(tiny_encoder)
    np.testing.assert_allclose(first, tiny_encoder.encode_texts(background()), atol=1e-6)
    monkeypatch.setattr(type(tiny_encoder), "encode_texts", lambda self, texts: pytest.fail("encoded again"))
    np.testing.assert_array_equal(background_vectors(tiny_encoder), first)


def test_a_damaged_background_is_made_again(tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path))
    first = background_vectors(tiny_encoder)
    (file,) = tmp_path.rglob("*.npy")
    file.write_bytes(file.read_bytes()[:100])
    np.testing.assert_allclose(background_vectors(tiny_encoder), first, atol=1e-6)
    file.write_bytes(b"")
    np.testing.assert_allclose(background_vectors(tiny_encoder), first, atol=1e-6)


def test_a_cache_that_cannot_be_written_is_done_without(tiny_encoder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "file"))
    assert background_vectors(tiny_encoder).shape == (len(background()), tiny_encoder.dim)


def test_background_captions_are_distinct_texts():
    captions = background()
    assert len(captions) == len(set(captions)) == 264
    assert all(caption == caption.strip() != "" for caption in captions)


def test_the_built_in_encoder_knows_what_it_does_not_find(builtin_encoder, sample_photos):
    photos = [path for path in sample_photos if path.name != "motorcycle_left.png"]
    images = builtin_encoder.encode_images([open_image(path)[0] for path in photos])
    model = relevance_model(partial(exact_search, images), builtin_encoder)
    there = ["a cat", "a man with a camera", "a flower"]
    scores = (builtin_encoder.encode_texts([*there, "a skier in the snow", "a wedding"]) @ images.T).max(1)
    relevance = model.of(scores)
    assert (relevance[:3] >= 0.5).all() and (relevance[3:] < 0.5).all(), relevance
