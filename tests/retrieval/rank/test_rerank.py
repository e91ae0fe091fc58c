import logging
from pathlib import Path

import numpy as np
import pytest

from retrieval.images import open_image
from retrieval.query import Query, parse
from retrieval.rank.rerank import EncoderReranker, Stored, reranked
from retrieval.rank.vector_cache import VectorCache
from retrieval.reading import content_hash


class Counting:
    """An encoder that counts the images it embeds."""

    def __init__(self, encoder):
        self._encoder, self.images, self.texts = encoder, 0, []

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode_texts(self, texts):
        self.texts += texts
        return self._encoder.encode_texts(texts)

    def encode_prepared(self, prepared):
        self.images += len(prepared)
        return self._encoder.encode_prepared(prepared)


def stored(folder):
    return [Stored(str(path), content_hash(path.read_bytes())) for path in sorted(folder.glob("*.*"))]


@pytest.fixture
def images(photo_folder):
    return stored(photo_folder)


@pytest.fixture
def encoder(tiny_encoder):
    return Counting(tiny_encoder)


def cache_of(folder, encoder):
    return VectorCache(folder, encoder.fingerprint, (encoder.dim,))


def test_scores_are_the_other_encoders_cosines(images, encoder, tmp_path):
    reranker = EncoderReranker(encoder, cache_of(tmp_path, encoder))
    scores = reranker.scores(parse("a cat"), images, np.zeros(len(images)))
    pictures = [open_image(Path(one.path), at_least=encoder.input_size)[0] for one in images]
    exact = encoder.encode_images(pictures) @ encoder.encode_texts(["a cat"])[0]
    np.testing.assert_allclose(scores, exact, atol=1e-3)
    assert reranker.name == encoder.name


def test_each_image_is_encoded_once_and_scores_stay_the_same(images, encoder, tmp_path):
    queries = [parse("a cat"), parse("a rocket"), parse(images[0].path)]
    first, second = (
        [EncoderReranker(encoder, cache_of(tmp_path, encoder)).scores(query, images, np.zeros(len(images)))
         for query in queries] for _ in range(2)
    )
    assert encoder.images == len(images) == 5
    np.testing.assert_array_equal(first, second)
    assert first[2].argmax() == 0 and first[2][0] == pytest.approx(1, abs=1e-3)


def test_queries_of_one_name_are_told_apart(images, encoder, tmp_path):
    reranker, first = EncoderReranker(encoder, cache_of(tmp_path, encoder)), np.zeros(len(images))
    file = tmp_path / "query.png"
    for place in (0, 3):  # written over in between
        file.write_bytes(Path(images[place].path).read_bytes())
        assert reranker.scores(parse(str(file)), images, first).argmax() == place
    words = reranker.scores(Query(str(file)), images, first)
    np.testing.assert_array_equal(words, EncoderReranker(encoder, cache_of(tmp_path, encoder)).scores(
        Query(str(file)), images, first
    ))
    for place in (0, 3):
        upload = Query("upload", image=Path(images[place].path).read_bytes())
        assert reranker.scores(upload, images, first).argmax() == place


def test_wider_searches_embed_their_query_once(images, encoder, tmp_path):
    reranker, query = EncoderReranker(encoder, cache_of(tmp_path, encoder)), parse("a cat")
    narrow = reranker.scores(query, images[:2], np.zeros(2))
    np.testing.assert_array_equal(reranker.scores(query, images, np.zeros(len(images)))[:2], narrow)
    assert encoder.texts == ["a cat"]


def test_images_that_are_gone_or_changed_have_no_score(images, encoder, tmp_path, caplog):
    Path(images[1].path).unlink()
    Path(images[3].path).write_bytes(Path(images[0].path).read_bytes())
    with caplog.at_level(logging.WARNING, "retrieval"):
        scores = EncoderReranker(encoder, cache_of(tmp_path, encoder)).scores(
            parse("a cat"), images, np.zeros(len(images))
        )
    assert np.isnan(scores).tolist() == [False, True, False, True, False]
    assert "2 images cannot be read again" in caplog.text and images[1].path in caplog.text


def test_what_cannot_be_read_is_said_once(images, encoder, tmp_path, caplog):
    reranker, first = EncoderReranker(encoder, cache_of(tmp_path, encoder)), np.zeros(len(images))
    unknown, said = [Stored(one.path, None) for one in images], []  # read each time
    for gone, query in ((1, "a cat"), (1, "a rocket"), (3, "a cup")):
        Path(images[gone].path).unlink(missing_ok=True)
        with caplog.at_level(logging.WARNING, "retrieval"):
            reranker.scores(parse(query), unknown, first)
        said.append([record.getMessage() for record in caplog.records])
        caplog.clear()
    assert [len(one) for one in said] == [1, 0, 1]
    assert f"1 images cannot be read again and come after the others; the first is {images[3].path}: " in said[2][0]


def test_images_of_unknown_content_are_read_to_know_it(images, encoder, tmp_path):
    query, first = parse("a cat"), np.zeros(len(images))
    unknown = [Stored(one.path, None) for one in images]
    before = EncoderReranker(encoder, cache_of(tmp_path, encoder)).scores(query, unknown, first)
    after = EncoderReranker(encoder, cache_of(tmp_path, encoder)).scores(query, images, first)
    np.testing.assert_array_equal(before, after)
    assert encoder.images == len(images)


def test_order_after_a_second_look():
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    again = np.array([0.1, np.nan, 0.4, 0.1])
    assert reranked(scores, again).tolist() == [2, 0, 3, 1, 4]
    assert reranked(scores, np.empty(0)).tolist() == [0, 1, 2, 3, 4]
