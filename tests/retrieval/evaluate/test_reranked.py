"""A second look at the best images, of vectors that are written down; the reranker's scores are, too."""

from types import SimpleNamespace

import numpy as np
import pytest

from retrieval.corpus.captions import Caption
from retrieval.evaluate.reranked import score_reranked
from retrieval.evaluate.scores import Sampling

IMAGES = {"a.png": 0, "b.png": 40, "c.png": 80, "d.png": 120}
SAMPLING = Sampling(resamples=100)


class Again:
    """Scores by the caption, and what it was asked: (caption, paths, first scores)."""

    name, depth = "again", 3

    def __init__(self, scores):
        self.said, self.asked = scores, []

    def scores(self, query, images, first):
        self.asked.append((query.shown, [one.path for one in images], first))
        return np.array([self.said[query.shown][one.path] for one in images], np.float32)


def collection(biases=None):
    contents = {row: (name, f"/{name}", f"hash of {name}") for row, name in enumerate(IMAGES)}
    catalog = SimpleNamespace(indexed=lambda: [(name, row) for row, name in enumerate(IMAGES)],
                              contents_of_rows=lambda rows: {row: contents[row] for row in rows})
    return SimpleNamespace(catalog=catalog, biases=lambda: biases)


def ranks(scores):
    return scores.ranks.ranks.tolist()


def test_the_best_are_put_in_another_order_and_the_rest_stays(compared):
    evaluation = compared(IMAGES, {
        Caption("a.png", "up"): 10,  # a, b, c | d: looked at again c, a, b
        Caption("d.png", "no"): 10,  # d is not among them
        Caption("b.png", "same"): 50,  # b, c, a | d: nothing is told apart
        Caption("c.png", "lost"): 70,  # c, b, d | a: c cannot be read any more
    })
    again = Again({
        "up": {"/a.png": 0.2, "/b.png": 0.1, "/c.png": 0.3},
        "no": {"/a.png": 0.1, "/b.png": 0.2, "/c.png": 0.3},
        "same": {"/a.png": 1, "/b.png": 1, "/c.png": 1},
        "lost": {"/b.png": -5, "/c.png": np.nan, "/d.png": -4},
    })
    told = []
    found = score_reranked(evaluation, collection(), again, sampling=SAMPLING, progress=lambda *one: told.append(one))
    (scores,) = found.directions
    assert ranks(evaluation.text_to_image) == [1, 4, 1, 1]
    assert ranks(scores) == [2, 4, 1, 3]
    assert scores.hit_rates == {1: 0.25, 5: 1.0, 10: 1.0}
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    asked = {caption: (paths, first) for caption, paths, first in again.asked}
    assert asked["lost"][0] == ["/c.png", "/b.png", "/d.png"]
    np.testing.assert_allclose(asked["lost"][1], np.cos(np.radians([10, 30, 50])), atol=1e-6)
    lift = {one.metric: one for one in found.lift("compass", SAMPLING)}
    assert lift["R@1"].estimate.value == 0.25 - 0.75
    assert (lift["R@1"].model, lift["R@1"].reference) == ("compass, reranked", "compass")
    assert found.to_json()["by"] == "again" and found.to_json()["depth"] == 3
    assert found.to_json()["results"][0]["metrics"]["R@1"][0] == 0.25


def test_calibrated_searches_are_what_it_begins_with(compared):
    biases = np.array([2, 0, 0, 0], np.float32)  # a comes last
    captions = {Caption("a.png", "up"): 10, Caption("b.png", "down"): 10}  # b, c, d | a
    again = Again({one: {"/b.png": 0.1, "/c.png": 0.3, "/d.png": 0.2} for one in ("up", "down")})
    evaluation = compared(IMAGES, captions, biases=biases)
    found = score_reranked(evaluation, collection(biases), again, sampling=SAMPLING)
    assert [ranks(one) for one in (*found.before, *found.directions)] == [[4, 1], [4, 3]]
    np.testing.assert_allclose(again.asked[0][2], np.cos(np.radians([30, 70, 110])), atol=1e-6)
    assert {one.reference for one in found.lift("compass", SAMPLING)} == {"compass, calibrated"}

    every = {f"/{name}": place for place, name in enumerate(IMAGES)}  # d, c, b, a
    plain = score_reranked(compared(IMAGES, captions), collection(biases), Again({"up": every, "down": every}),
                           calibrated=False, sampling=SAMPLING)
    assert [ranks(one) for one in plain.directions] == [[3, 2]]  # of a, b, c: c, b, a


def test_each_language_by_itself(compared):
    again = Again({
        "ein Hund": {"/a.png": 0, "/b.png": 1, "/c.png": 2}, "a dog": {"/a.png": 2, "/b.png": 1, "/c.png": 0},
        "a cat": {"/a.png": 0, "/b.png": 2, "/c.png": 1},
    })
    evaluation = compared(IMAGES, {
        Caption("a.png", "a dog", language="en"): 10, Caption("a.png", "ein Hund", language="de"): 10, Caption("b.png", "a cat", language="en"): 10,
    })
    found = score_reranked(evaluation, collection(), again, sampling=SAMPLING)
    assert {one.language: ranks(one) for one in found.directions} == {"en": [1, 1], "de": [3]}
    assert {one.language: ranks(one) for one in found.before} == {"en": [1, 2], "de": [1]}


@pytest.mark.parametrize(("depth", "expected"), [(1, [1, 2]), (2, [2, 1]), (9, [4, 3])])
def test_no_deeper_than_the_reranker_looks(compared, depth, expected):
    later_first = {f"/{name}": place for place, name in enumerate(IMAGES)}
    again = Again({"up": later_first, "down": later_first})
    again.depth = depth
    evaluation = compared(IMAGES, {Caption("a.png", "up"): 10, Caption("b.png", "down"): 10})
    assert ranks(score_reranked(evaluation, collection(), again, sampling=SAMPLING).directions[0]) == expected
