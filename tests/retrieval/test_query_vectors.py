from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from retrieval.errors import QueryError
from retrieval.query import Query, embed, parse, parse_arguments
from retrieval.query_cache import QueryCache
from retrieval.query_vectors import QueryVectors

DIM = 32


class Counted:
    """Embeds; says what it was asked for."""

    def __init__(self, encoder):
        self.encoder, self.asked = encoder, []

    def __call__(self, queries):
        self.asked.append([query.shown for query in queries])
        return embed(queries, self.encoder)


@pytest.fixture
def encoder(tiny_encoder):
    return Counted(tiny_encoder)


def nothing_stored(ids):
    raise QueryError(f"no {ids[0]}")


def vectors(encoder, cache=None, stored=nothing_stored, how=""):
    return QueryVectors(DIM, encoder, stored, cache, how)


def unit(vector):
    return vector / np.linalg.norm(vector)


def test_terms_are_added_and_subtracted(encoder, photo_folder):
    rocket = photo_folder / "rocket.jpg"
    text = f"2:a cat + {rocket} - 0.5:night"
    single = embed([parse("a cat"), parse(str(rocket)), parse("night")], encoder.encoder)
    found = vectors(encoder).of([parse("night"), parse(text)])
    np.testing.assert_allclose(found[0], single[2], atol=1e-6)
    np.testing.assert_allclose(found[1], unit(2 * single[0] + single[1] - 0.5 * single[2]), atol=1e-6)
    product = vectors(encoder).of([parse(f"a cat + {rocket}")], "product")[0]
    np.testing.assert_allclose(product, unit(single[0] * single[1]), atol=1e-6)


def test_stored_documents_are_looked_up_and_load_nothing(encoder):
    rows = {"a.jpg": np.eye(DIM, dtype=np.float32)[0], "2019/b c.jpg": np.eye(DIM, dtype=np.float32)[1]}
    asked = []

    def stored(ids):
        asked.extend(ids)
        return rows

    [found] = vectors(encoder, stored=stored).of([parse("3:id:a.jpg - 4:id:2019/b c.jpg")])
    np.testing.assert_allclose(found[:2], [0.6, -0.8], atol=1e-6)
    assert asked == ["a.jpg", "2019/b c.jpg"] and encoder.asked == []


def test_only_what_is_new_is_embedded(encoder, photo_folder, tmp_path):
    rocket, copy = photo_folder / "rocket.jpg", tmp_path / "copy.jpg"
    copy.write_bytes(rocket.read_bytes())
    cache = QueryCache(tmp_path, "tiny", DIM)
    queries = [parse("a cat"), parse(f"{rocket} + a cat")]
    first = vectors(encoder, cache).of(queries)
    assert encoder.asked == [["a cat", str(rocket)]]
    again = vectors(encoder, cache).of([*queries, parse(str(copy)), parse("a dog")])
    assert encoder.asked[1:] == [["a dog"]]
    np.testing.assert_array_equal(again[:2], first)
    other_space = QueryCache(tmp_path, "another model", DIM)
    vectors(encoder, other_space).of([parse("a cat")])
    vectors(encoder, cache, how="in sentences").of([parse("a cat")])
    assert encoder.asked[2:] == [["a cat"]] * 2


def test_words_are_not_taken_for_an_image_of_the_same_content(encoder, tmp_path):
    cache = QueryCache(tmp_path, "tiny", DIM)
    vectors(encoder, cache).of([Query("cat and dog, no picture")])
    with pytest.raises(QueryError, match="^The query image it: "):
        vectors(encoder, cache).of([Query("it", b"cat and dog, no picture")])


def test_open_pictures_are_embedded_and_not_remembered(encoder, tmp_path):
    grey = Query("grey", Image.new("RGB", (40, 40), "grey"))
    cache = QueryCache(tmp_path, "tiny", DIM)
    found = vectors(encoder, cache).of([grey, Query("both", terms=((1.0, grey), (1.0, Query("a cat"))))])
    text = encoder.encoder.encode_texts(["a cat"])[0]
    np.testing.assert_allclose(found[1], unit(found[0] + text), atol=1e-6)
    assert list(cache.get([cache.key("text", "a cat")]).values())[0].shape == (DIM,)
    vectors(encoder, cache).of([grey])
    assert encoder.asked[-1] == ["grey"]


def test_no_queries(encoder):
    assert vectors(encoder).of([]).shape == (0, DIM) and encoder.asked == []


def test_what_cancels_is_named(encoder):
    with pytest.raises(QueryError) as caught:
        vectors(encoder).of([parse("a dog - a dog")])
    assert str(caught.value) == (
        "a dog - a dog: The terms of the query cancel each other out. Give them other weights."
    )


class TestParsing:
    """Terms that are files, ids and words, of one string and of arguments."""

    def test_what_terms_are(self, photo_folder, monkeypatch):
        monkeypatch.chdir(photo_folder)
        query = parse('2:red car + ./rocket.jpg - "rocket.jpg" + id:2019/rex.jpg')
        assert query.shown == '2:red car + ./rocket.jpg - "rocket.jpg" + id:2019/rex.jpg'
        weights, terms = zip(*query.terms)
        assert weights == (2, 1, -1, 1)
        assert [term.shown for term in terms] == ["red car", "./rocket.jpg", "rocket.jpg", "id:2019/rex.jpg"]
        assert str(terms[1].image) == "rocket.jpg" and terms[2].image is None and terms[3].document == "2019/rex.jpg"

    def test_a_file_may_be_called_like_a_composed_query(self, photo_folder, monkeypatch):
        monkeypatch.chdir(photo_folder)
        (photo_folder / "rocket.jpg").rename("salt - pepper.jpg")
        assert parse("salt - pepper.jpg").image is not None
        [query] = parse_arguments(["snow", "+", "salt - pepper.jpg"])
        assert [(weight, one.shown) for weight, one in query.terms] == [(1, "snow"), (1, "salt - pepper.jpg")]

    def test_arguments(self, photo_folder, monkeypatch):
        monkeypatch.chdir(photo_folder)
        queries = parse_arguments(["a cat", "red car", "+", "./rocket.jpg", "-", "2:truck - lorry", "b", "-40"])
        assert [query.shown for query in queries] == ["a cat", "red car + ./rocket.jpg - 2:truck - lorry", "b", "-40"]
        assert [weight for weight, _ in queries[1].terms] == [1, 1, -2, -1]
        assert all(query.terms == () for query in (queries[0], *queries[2:]))

    def test_weights_of_arguments(self):
        [query] = parse_arguments(["a", "+", "b", "-", "c"], [2, 0.5])
        assert [weight for weight, _ in query.terms] == [2, 0.5, -1]
        assert parse_arguments(["a"], [1]) == [Query("a")]
        [negative] = parse_arguments(["a"], [-1])
        assert negative.terms == ((-1, Query("a")),)

    @pytest.mark.parametrize(
        ("arguments", "weights", "said"),
        [
            (["+", "a"], [], r"^Argument 1 is \+, with no query before it"),
            (["a", "-", "+", "b"], [], r"^Argument 3 is \+, with no query before it"),
            (["a", "-"], [], "^The query ends with -; a term has to follow"),
            (["a", "b"], [2], "^Weights are for the terms of one query, and these are 2 queries"),
            (["a", "+", "b"], [1, 2, 3], "^There are 3 weights for the 2 terms"),
            (["a", "+", "./no/such.jpg"], [], "^There is no image file ./no/such.jpg"),
            (["a", "+", " "], [], "^The query is empty"),
            (["a", "+", '"b'], [], "^The quote at position 1 of the query is not closed"),
        ],
    )
    def test_refused(self, arguments, weights, said):
        with pytest.raises(QueryError, match=said):
            parse_arguments(arguments, weights)

    def test_a_single_query_equals_what_it_was(self):
        assert replace(parse('"a cat"'), shown="a cat") == Query("a cat")
        assert parse("id:a.jpg") == Query("id:a.jpg", document="a.jpg")
