"""A second look at the best images, of vectors that are written down; the reranker's scores are, too."""

from types import SimpleNamespace

import numpy as np
import pytest

from retrieval.corpus.captions import Caption
from retrieval.errors import RerankError
from retrieval.evaluate.reranked import score_reranked
from retrieval.evaluate.scores import Sampling
from retrieval.rank.rerank import Stored

IMAGES = {"a.png": 0, "b.png": 40, "c.png": 80, "d.png": 120, "e.png": 160}
LATER_FIRST = {f"/{name}": place for place, name in enumerate(IMAGES)}
SAMPLING = Sampling(resamples=100)


class Again:
    """Scores by the caption, and what it was asked: (caption, paths, first scores)."""

    name = "again"

    def __init__(self, scores, depth=3, gone=()):
        self.said, self.depth, self.gone, self.asked, self.images = scores, depth, gone, [], []

    def prepared(self, images):
        self.images += [one.path for one in images]
        return [None if one.path in self.gone else Stored(one.path, f"hash of {one.path}") for one in images]

    def scores(self, query, images, first):
        assert all(one.content for one in images)  # so that none is read for each query
        self.asked.append((query.shown, [one.path for one in images], first))
        return np.array([self.said[query.shown][one.path] for one in images], np.float32)


def collection(names=tuple(IMAGES)):
    contents = {row: (name, f"/{name}", None) for row, name in enumerate(names)}
    catalog = SimpleNamespace(indexed=lambda: [(name, row) for row, name in enumerate(names)],
                              contents_of_rows=lambda rows: {row: contents[row] for row in rows})
    return SimpleNamespace(catalog=catalog)


def ranks(scores):
    return scores.ranks.ranks.tolist()


def test_the_best_are_put_in_another_order_and_the_rest_stays(compared):
    evaluation = compared(IMAGES, {
        Caption("a.png", "up"): 10,  # a, b, c | d, e: looked at again c, a, b
        Caption("e.png", "no"): 10,  # e is not among them
        Caption("b.png", "same"): 50,  # b, c, a | d, e: nothing is told apart
        Caption("c.png", "lost"): 70,  # c, b, d | a, e: its second score is no number
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
    assert ranks(evaluation.text_to_image) == [1, 5, 1, 1]
    assert ranks(scores) == [2, 5, 1, 3]
    assert scores.hit_rates == {1: 0.25, 5: 1.0, 10: 1.0}
    assert told == [("Images to look at again", 4, 4), *(("Reranking", done, 4) for done in (1, 2, 3, 4))]
    assert again.images == ["/a.png", "/b.png", "/c.png", "/d.png"]
    asked = {caption: (paths, first) for caption, paths, first in again.asked}
    assert asked["lost"][0] == ["/c.png", "/b.png", "/d.png"]
    np.testing.assert_allclose(asked["lost"][1], np.cos(np.radians([10, 30, 50])), atol=1e-6)
    lift = {one.metric: one for one in found.lift("compass", SAMPLING)}
    assert lift["R@1"].estimate.value == 0.25 - 0.75
    assert (lift["R@1"].model, lift["R@1"].reference) == ("compass, reranked", "compass")
    said = found.to_json()
    assert [said[what] for what in ("by", "depth", "left_out", "unreadable")] == ["again", 3, 0, 0]
    assert said["results"][0]["metrics"]["R@1"][0] == 0.25
    assert found.told("compass").startswith("Searches of compass are reranked by again: the best 3 of each are looked at again")


def test_calibrated_searches_are_what_it_begins_with(compared):
    biases = np.array([2, 0, 0, 0, 0], np.float32)  # a comes last
    captions = {Caption("a.png", "up"): 10, Caption("b.png", "down"): 10}  # b, c, d | e, a
    again = Again({one: {"/b.png": 0.1, "/c.png": 0.3, "/d.png": 0.2} for one in ("up", "down")})
    found = score_reranked(compared(IMAGES, captions, biases=biases), collection(), again, sampling=SAMPLING)
    assert [ranks(one) for one in (*found.before, *found.directions)] == [[5, 1], [5, 3]]
    np.testing.assert_allclose(again.asked[0][2], np.cos(np.radians([30, 70, 110])), atol=1e-6)
    assert {one.reference for one in found.lift("compass", SAMPLING)} == {"compass, calibrated"}

    plain = score_reranked(compared(IMAGES, captions), collection(), Again({"up": LATER_FIRST, "down": LATER_FIRST}),
                           sampling=SAMPLING)
    assert [ranks(one) for one in plain.directions] == [[3, 2]]  # of a, b, c: c, b, a


def test_each_language_by_itself(compared):
    again = Again({
        "ein Hund": {"/a.png": 0, "/b.png": 1, "/c.png": 2}, "a dog": {"/a.png": 2, "/b.png": 1, "/c.png": 0},
        "a cat": {"/a.png": 0, "/b.png": 2, "/c.png": 1},
    })
    evaluation = compared(IMAGES, {
        Caption("a.png", "a dog", language="en"): 10, Caption("a.png", "ein Hund", language="de"): 10,
        Caption("b.png", "a cat", language="en"): 10,
    })
    found = score_reranked(evaluation, collection(), again, sampling=SAMPLING)
    assert {one.language: ranks(one) for one in found.directions} == {"en": [1, 1], "de": [3]}
    assert {one.language: ranks(one) for one in found.before} == {"en": [1, 2], "de": [1]}


@pytest.mark.parametrize(("depth", "expected"), [(1, [1, 2]), (2, [2, 1]), (9, [5, 4])])
def test_no_deeper_than_the_reranker_looks(compared, depth, expected):
    again = Again({"up": LATER_FIRST, "down": LATER_FIRST}, depth)
    evaluation = compared(IMAGES, {Caption("a.png", "up"): 10, Caption("b.png", "down"): 10})
    found = score_reranked(evaluation, collection(), again, sampling=SAMPLING)
    assert ranks(found.directions[0]) == expected and found.depth == min(depth, 5)


def test_what_cannot_be_read_comes_last_and_is_counted(compared):
    again = Again({"up": LATER_FIRST, "down": LATER_FIRST}, gone=["/c.png"])
    evaluation = compared(IMAGES, {Caption("a.png", "up"): 10, Caption("b.png", "down"): 10})
    found = score_reranked(evaluation, collection(), again, sampling=SAMPLING)  # of a, b, c: b, a, c
    assert ranks(found.directions[0]) == [2, 1]
    assert [paths for _, paths, _ in again.asked] == [["/a.png", "/b.png"]] * 2
    assert found.unreadable == 1 and "1 images could not be looked at" in found.told("compass")

    dropped = score_reranked(evaluation, collection(["a.png", "c.png"]), Again({"up": LATER_FIRST, "down": LATER_FIRST}),
                             sampling=SAMPLING)  # b, d and e left the collection since it was evaluated
    assert ranks(dropped.directions[0]) == [2, 3] and dropped.unreadable == 3
    with pytest.raises(RerankError, match="None of the images can be looked at again by again"):
        score_reranked(evaluation, collection(), Again({}, gone=list(LATER_FIRST)), sampling=SAMPLING)


def test_of_many_captions_some_are_asked(compared):
    captions = {Caption("abcde"[number % 5] + ".png", f"caption {number}"): 40 * (number % 5) for number in range(40)}
    again = Again({caption.text: LATER_FIRST for caption in captions})
    found = score_reranked(compared(IMAGES, captions), collection(), again, sampling=SAMPLING, most=12)
    chosen = sorted(int(caption.partition(" ")[2]) for caption, _, _ in again.asked)
    assert len(set(chosen)) == 12 and found.left_out == 28
    assert "12 of the captions were asked, drawn at random" in found.told("compass")
    assert ranks(found.before[0]) == [1] * 12  # each caption lies on its image
    last = {0: 3, 1: 2, 2: 2, 3: 2, 4: 1}  # of itself and the two nearest, later ones first
    assert ranks(found.directions[0]) == [last[number % 5] for number in chosen]


def test_captions_without_a_right_answer_are_not_asked(compared, tmp_path):
    judged = tmp_path / "judged.qrels"
    judged.write_text("b.png#0 0 a.png 1\nb.png#0 0 b.png 1\n")
    evaluation = compared(
        IMAGES, {Caption("a.png", "unjudged"): 10, Caption("b.png", "two"): 30, Caption("c.png", "either"): 80},
        judgements=judged,
    )
    again = Again({"two": {"/a.png": 3, "/b.png": 1, "/c.png": 2}})
    found = score_reranked(evaluation, collection(), again, sampling=SAMPLING)
    assert [caption for caption, _, _ in again.asked] == ["two"]
    assert ranks(found.before[0]) == [2, 1] and ranks(found.directions[0]) == [1, 3]


def test_copies_come_as_searches_have_them(compared):
    images = {"a.png": 0, "b.png": 40, "copy of a.png": 0}
    paths = [f"/{name}" for name in images]
    again = Again({"up": dict.fromkeys(paths, 1)})
    evaluation = compared(images, {Caption("copy of a.png", "up"): 10})
    found = score_reranked(evaluation, collection(tuple(images)), again, sampling=SAMPLING)
    assert again.asked[0][1] == ["/a.png", "/copy of a.png", "/b.png"] and ranks(found.directions[0]) == [2]
