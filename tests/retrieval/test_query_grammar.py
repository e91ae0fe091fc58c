import math

import pytest

from retrieval.errors import QueryError
from retrieval.query_grammar import Term, is_joint, terms, with_weights


@pytest.mark.parametrize(
    "text",
    [
        "a dog", "black-and-white", "C++", "rock+roll", "-40", "16:9 photo", "2:red car", '12" vinyl',
        '"hello" she said', "id: card", "id:", "a -b c", "1 +2",
    ],
)
def test_a_text_without_operators_is_one_term_as_it_stands(text):
    assert terms(text) == [Term(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red car + ./like.jpg - truck",
         [("red car", 1, "plain", 1), ("./like.jpg", 1, "plain", 11), ("truck", -1, "plain", 24)]),
        ("  a\n+\tb ", [("a", 1, "plain", 3), ("b", 1, "plain", 7)]),
        ("2:red car + 0.5:b - .25: c",
         [("red car", 2, "plain", 1), ("b", 0.5, "plain", 13), ("c", -0.25, "plain", 21)]),
        ("a - -2:b", [("a", 1, "plain", 1), ("b", 2, "plain", 5)]),
        ('"salt - pepper" + id:2019/rex.jpg', [("salt - pepper", 1, "words", 1), ("2019/rex.jpg", 1, "id", 19)]),
        ('3:"16:9" + id:"a + b.jpg"', [("16:9", 3, "words", 1), ("a + b.jpg", 1, "id", 12)]),
        ('"cat"', [("cat", 1, "words", 1)]),
        ("id:a - b.jpg", [("a", 1, "id", 1), ("b.jpg", -1, "plain", 8)]),
        ("id:rex.jpg", [("rex.jpg", 1, "id", 1)]),
        ("C++ - C", [("C++", 1, "plain", 1), ("C", -1, "plain", 7)]),
        ("0:a + b", [("a", 0, "plain", 1), ("b", 1, "plain", 7)]),
    ],
)
def test_terms(text, expected):
    assert terms(text) == [Term(*one) for one in expected]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "The query is empty. Say what to look for, or give an image file."),
        ('a + "b', 'The quote at position 5 of the query is not closed: a + "b.'),
        ('"cat', 'The quote at position 1 of the query is not closed: "cat.'),
        ("a +", "A term of the query is missing at the end: a +."),
        ("a + - b", "A term of the query is missing at position 5: a + - b."),
        ("- a", "Nothing stands before the - at position 1 of the query. If it belongs to the words, "
                'put them in quotes: "- a".'),
        ('a + ""', "The quotes at position 5 of the query are empty."),
        ('a + "b" c', "Behind the closing quote at position 7 of the query there has to be + or -, "
                      "with spaces around it."),
        ("nan:a + b", "The weight nan at position 1 of the query is no finite number. If these are words, "
                      'put them in quotes: "nan:a".'),
        ("b + 1e999:a", "The weight 1e999 at position 5 of the query is no finite number. If these are words, "
                        'put them in quotes: "1e999:a".'),
    ],
)
def test_refused(text, said):
    with pytest.raises(QueryError) as caught:
        terms(text)
    assert str(caught.value) == said


def test_a_part_of_a_query_may_have_a_weight_though_it_is_one_term():
    assert terms("2:car", joined=True) == [Term("car", 2.0)]


def test_an_id_in_an_argument_of_its_own_is_whole():
    assert terms("id:photo - Copy.jpg", joined=True) == [Term("photo - Copy.jpg", 1.0, "id")]
    assert terms(" 2:id:a + b.jpg ", joined=True) == [Term("a + b.jpg", 2.0, "id", 2)]
    assert terms('id:"a - b.jpg" - c', joined=True) == [Term("a - b.jpg", 1.0, "id"), Term("c", -1.0, at=18)]
    assert [term.text for term in terms("ID:a - b", joined=True)] == ["ID:a", "b"]
    assert [term.text for term in terms("id:a - b")] == ["a", "b"]


def test_weights_in_place_of_those_written():
    assert with_weights(terms("2:a + b - c"), [5, 0.5]) == [Term("a", 5), Term("b", 0.5, at=7), Term("c", -1, at=11)]
    assert with_weights(terms("a - b"), [1, 3])[1].weight == -3


def test_weights_that_cannot_be():
    with pytest.raises(QueryError, match="^There are 3 weights for the 2 terms"):
        with_weights(terms("a + b"), [1, 2, 3])
    for bad in (math.nan, math.inf):
        with pytest.raises(QueryError, match="^Weight 2 is (nan|inf); a weight has to be a finite number"):
            with_weights(terms("a + b"), [1, bad])


def test_what_joins():
    assert [one for one in ("+", "-", "--", "a", "+a", "") if is_joint(one)] == ["+", "-"]
