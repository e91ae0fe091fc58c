import numpy as np
import pytest

from retrieval.query import Query
from retrieval.rank.refinement import Candidates, Refined, refine, width
from retrieval.rank.relevance import RelevanceModel
from retrieval.rank.rerank import Stored
from retrieval.wanted import AUTO, Refinement

# Rows 0 and 1 are near twins (0.96), 2 and 4 equal files.
VECTORS = np.array([[1, 0, 0], [0.96, 0.28, 0], [0, 1, 0], [0, 0, 1], [0, 0.6, 0.8]], np.float32)
SCORES = np.array([0.5, 0.4, 0.3, 0.2, 0.1], np.float32)
QUERY = Query("a dog")


def candidates(n=5, scores=SCORES, beyond=0.5):
    stored = [Stored(f"/{row}.jpg", content) for row, content in enumerate("abcdc")]
    return Candidates(np.arange(n), scores[:n], SCORES[:n], beyond, lambda rows: VECTORS[rows], stored[:n])


class Backwards:
    """The more the less the first scores are; the image at `unreadable` has no score."""

    name, depth, unreadable = "backwards", 4, None

    def scores(self, query, images, first):
        assert query == QUERY
        again = 1 - first
        if self.unreadable is not None:
            again[self.unreadable] = np.nan
        return again


def positions(how, k=5, n=5, relevance=None):
    return [one.position for one in refine(candidates(n), k, how, QUERY, relevance)[0]]


def test_nothing_asked_for_changes_nothing():
    assert not Refinement() and Refinement(dedup=0.9)
    assert refine(candidates(), 2, Refinement(), QUERY, None) == ([Refined(0), Refined(1)], False)


def test_a_least_score_is_one_that_counts():
    assert positions(Refinement(min_score=float(SCORES[2]))) == [0, 1, 2]
    assert positions(Refinement(min_score=0.9)) == []


def test_auto_leaves_out_what_is_likely_not_meant():
    model = RelevanceModel(np.array([0.15, 0.25, 0.35, 0.45]))
    shown, more = refine(candidates(beyond=0.1), 5, Refinement(min_score=AUTO), QUERY, model)
    assert [(one.position, one.relevance) for one in shown] == [(0, 1.0), (1, 0.75), (2, 0.5)]
    assert not more
    assert not refine(candidates(beyond=0.25), 5, Refinement(min_score=AUTO), QUERY, model)[1]
    assert refine(candidates(beyond=0.251), 5, Refinement(min_score=AUTO), QUERY, model)[1]


def test_duplicates_are_counted_by_the_best_of_them():
    shown, more = refine(candidates(), 5, Refinement(dedup=0.95), QUERY, None)
    assert [(one.position, one.duplicates) for one in shown] == [(0, 1), (2, 1), (3, 0)]
    assert more  # five were asked for
    assert not refine(candidates(4), 3, Refinement(dedup=0.95), QUERY, None)[1]


def test_where_the_last_candidate_is_a_copy_there_may_be_more():
    assert refine(candidates(), 3, Refinement(dedup=0.95), QUERY, None)[1]  # of 2, which is shown
    assert not refine(candidates(), 1, Refinement(dedup=0.95), QUERY, None)[1]
    assert not refine(candidates(), 3, Refinement(dedup=0.95, rerank=Backwards()), QUERY, None)[1]


def test_more_candidates_cannot_help_where_all_others_score_too_low():
    how = Refinement(min_score=0.25)
    assert not refine(candidates(beyond=0.2), 5, how, QUERY, None)[1]
    assert not refine(candidates(), 3, how, QUERY, None)[1]  # there are enough
    # Whatever those that came score: what calibration held back may score more.
    assert refine(candidates(2), 5, how, QUERY, None)[1]
    assert refine(candidates(1, np.array([0.1], np.float32), beyond=0.25), 1, how, QUERY, None) == ([], True)


def test_reranking_orders_the_first_and_keeps_both_scores():
    shown, _ = refine(candidates(), 5, Refinement(rerank=Backwards()), QUERY, None)
    assert [one.position for one in shown] == [3, 2, 1, 0, 4]
    assert [one.rerank_score for one in shown[:4]] == pytest.approx([0.8, 0.7, 0.6, 0.5])
    assert shown[4].rerank_score is None


def test_what_cannot_be_looked_at_again_comes_behind():
    reranker = Backwards()
    reranker.unreadable = 3
    assert positions(Refinement(rerank=reranker)) == [2, 1, 0, 3, 4]


def test_after_reranking_the_best_of_each_picture_is_the_rerankers():
    shown, _ = refine(candidates(), 5, Refinement(rerank=Backwards(), dedup=0.95), QUERY, None)
    assert [(one.position, one.duplicates) for one in shown] == [(3, 0), (2, 1), (1, 1)]


def test_the_least_score_is_of_the_first_scores_after_reranking_too():
    assert positions(Refinement(rerank=Backwards(), min_score=0.25)) == [2, 1, 0]


def test_diverse_results_come_from_what_is_left():
    assert positions(Refinement(diverse=0.5), k=3) == [0, 2, 3]
    assert positions(Refinement(diverse=0.5, min_score=0.35), k=3) == [0, 1]
    # By the reranker's order: 3 first; then 2, unlike it and next in order.
    assert positions(Refinement(diverse=0.5, rerank=Backwards()), k=2) == [3, 2]


def test_diverse_results_are_good_by_calibrated_scores():
    scores = np.array([0.6, 0.9, 0.4, 0.8, 0.7], np.float32)  # whose order is another
    shown, _ = refine(candidates(scores=scores), 5, Refinement(diverse=1), QUERY, None)
    assert [one.position for one in shown] == [0, 1, 2, 3, 4]
    shown, _ = refine(candidates(scores=scores), 3, Refinement(diverse=0.5), QUERY, None)
    assert [one.position for one in shown] == [0, 2, 3]


def test_no_candidates():
    model = RelevanceModel(np.array([0.2]))
    everything = Refinement(AUTO, 0.9, 0.5, Backwards())
    assert refine(candidates(0), 3, everything, QUERY, model) == ([], True)


def test_how_many_candidates_to_begin_with():
    assert width(Refinement(min_score=0.2), 10) == 10
    assert width(Refinement(dedup=0.9), 10) == 20
    assert width(Refinement(diverse=0.5), 10) == 50
    assert width(Refinement(rerank=Backwards()), 10) == 10
    assert width(Refinement(rerank=Backwards(), dedup=0.9), 3) == 8
