import numpy as np
import pytest

from retrieval.query import Query, embed, parse
from retrieval.query_vectors import QueryVectors
from retrieval.rank.templates import AUTO, OFF, ON, TEMPLATES, in_sentences


def embed_in_sentences(queries, encoder, templates):
    vectors = QueryVectors(encoder.dim, lambda new: embed(new, encoder), lambda ids: {}, None)
    return vectors.of(in_sentences(queries, encoder.name, templates))


@pytest.mark.parametrize("text", ["dog", "a dog", "The dog"])
def test_a_short_query_is_the_mean_of_its_sentences(tiny_encoder, text):
    sentences = ["dog", "a photo of a dog.", "a photo of the dog.", "a picture of dog."]
    mean = tiny_encoder.encode_texts(sentences).mean(0)
    (found,) = embed_in_sentences([parse(text)], tiny_encoder, ON)
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-6)
    assert found.dtype == np.float32


def test_long_texts_and_images_are_left_as_they_are(tiny_encoder, photo_folder):
    image = photo_folder / "rocket.jpg"
    queries = [parse("two dogs and a cat"), parse(str(image)), parse("red car"), Query("cat", image)]
    vectors = embed_in_sentences(queries, tiny_encoder, ON)
    np.testing.assert_allclose(vectors[0], tiny_encoder.encode_texts(["two dogs and a cat"])[0], atol=1e-6)
    np.testing.assert_allclose(vectors[1], vectors[3], atol=1e-6)
    car = tiny_encoder.encode_texts([template.format("red car") for template in TEMPLATES]).mean(0)
    np.testing.assert_allclose(vectors[2], car / np.linalg.norm(car), atol=1e-6)


def test_an_article_alone_is_a_text(tiny_encoder):
    np.testing.assert_allclose(
        embed_in_sentences([parse("the")], tiny_encoder, ON), tiny_encoder.encode_texts(["the"]), atol=1e-6
    )


def test_auto_means_on_where_it_was_measured_to_help(tiny_encoder, builtin_encoder):
    for encoder, same_as in ((tiny_encoder, OFF), (builtin_encoder, ON)):
        by_itself = embed_in_sentences([parse("dog")], encoder, AUTO)
        np.testing.assert_allclose(by_itself, embed_in_sentences([parse("dog")], encoder, same_as), atol=1e-6)
    plain, spoken = (embed_in_sentences([parse("dog")], builtin_encoder, how) for how in (OFF, ON))
    assert float(plain[0] @ spoken[0]) < 0.999


def test_no_queries(tiny_encoder):
    assert embed_in_sentences([], tiny_encoder, ON).shape == (0, tiny_encoder.dim)
