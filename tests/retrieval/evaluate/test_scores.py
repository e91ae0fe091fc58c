import math

import numpy as np
import pytest

from retrieval.bootstrap import mean_intervals, median_interval
from retrieval.evaluate.scores import (
    IMAGE_TO_TEXT, MEAN_RANK, MEDIAN_RANK, TEXT_TO_IMAGE, Estimate, Sampling, in_percent, r_sum, score,
)
from retrieval.metrics import Relevance, RelevantRanks


def ranked(*queries):
    counts = [len(query) for query in queries]
    rows = np.concatenate([np.arange(count) for count in counts]).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)])
    return RelevantRanks(Relevance(starts, rows, np.ones(len(rows), np.float32)),
                         np.array([rank for query in queries for rank in query], np.int64))


def values(scores):
    return {name: estimate.value for name, estimate in scores.estimates.items()}


def test_every_metric_by_name():
    # The second query has two right answers, the third none, the fourth one that comes too late.
    scores = score(TEXT_TO_IMAGE, ranked([1], [4, 2], [], [40]), np.arange(4), 50, ks=(1, 5))
    best_of_two = 1 + 1 / math.log2(3)
    assert values(scores) == {
        "R@1": pytest.approx(1 / 3), "R@5": pytest.approx(2 / 3),
        "recall@1": pytest.approx(1 / 3), "recall@5": pytest.approx(2 / 3),
        "precision@1": pytest.approx(1 / 3), "precision@5": pytest.approx((1 / 5 + 2 / 5) / 3),
        "F1@1": pytest.approx(1 / 3), "F1@5": pytest.approx((2 / 6 + 4 / 7) / 3),
        "nDCG@1": pytest.approx(1 / 3),
        "nDCG@5": pytest.approx((1 + (1 / math.log2(3) + 1 / math.log2(5)) / best_of_two) / 3),
        "MRR": pytest.approx((1 + 1 / 2 + 1 / 40) / 3), "mAP": pytest.approx((1 + 1 / 2 + 1 / 40) / 3),
        MEDIAN_RANK: 2, MEAN_RANK: pytest.approx(43 / 3),
    }
    assert list(scores.estimates) == list(scores.per_query) == [
        "R@1", "R@5", "recall@1", "recall@5", "precision@1", "precision@5", "F1@1", "F1@5", "nDCG@1", "nDCG@5",
        "MRR", "mAP", MEDIAN_RANK, MEAN_RANK,
    ]
    assert (scores.queries, scores.documents, scores.direction, scores.language) == (3, 50, TEXT_TO_IMAGE, "")
    assert scores.hit_rates == {1: pytest.approx(1 / 3), 5: pytest.approx(2 / 3)}


def test_values_per_query():
    scores = score(IMAGE_TO_TEXT, ranked([1, 7], [], [3]), np.arange(3), 20, ks=(5,))
    np.testing.assert_array_equal(scores.per_query["R@5"], [1, np.nan, 1])
    np.testing.assert_array_equal(scores.per_query["recall@5"], [0.5, np.nan, 1])
    np.testing.assert_array_equal(scores.per_query[MEDIAN_RANK], [1, np.nan, 3])


def test_intervals_are_the_bootstraps_over_images():
    generator = np.random.default_rng(0)
    ranks, images = generator.integers(1, 20, 60), np.repeat(np.arange(12), 5)
    scores = score(TEXT_TO_IMAGE, ranked(*ranks[:, None]), images, 30, sampling=Sampling(200, seed=3))
    options = {"clusters": images, "resamples": 200, "seed": 3}
    for name in ("R@5", "precision@10", "MRR"):
        expected = mean_intervals(scores.per_query[name], **options)
        assert [scores.estimates[name].low, scores.estimates[name].high] == pytest.approx(expected.tolist())
    middle = scores.estimates[MEDIAN_RANK]
    assert [middle.low, middle.high] == median_interval(ranks.astype(float), **options).tolist()
    mean = scores.estimates[MEAN_RANK]
    assert mean.value == pytest.approx(ranks.mean())
    assert mean.low < mean.value < mean.high


def test_hits_of_every_query_are_not_certain():
    scores = score(TEXT_TO_IMAGE, ranked(*[[1]] * 19), np.arange(19), 19)
    assert scores.estimates["R@1"].value == scores.estimates["R@1"].high == 1
    assert scores.estimates["R@1"].low == pytest.approx(0.8235, abs=5e-5)
    assert scores.estimates[MEAN_RANK] == Estimate(1, 1, 1)


def test_without_a_query_that_has_an_answer():
    scores = score(TEXT_TO_IMAGE, ranked([], []), np.arange(2), 9)
    assert scores.queries == 0
    assert all(math.isnan(value) for value in values(scores).values())
    assert math.isnan(r_sum([scores]).value)


def test_without_any_query():
    scores = score(IMAGE_TO_TEXT, RelevantRanks(Relevance.from_lists([]), np.empty(0, np.int64)), np.arange(0), 9)
    assert scores.queries == 0
    assert all(math.isnan(value) for value in values(scores).values())


def test_json_holds_fractions():
    scores = score(TEXT_TO_IMAGE, ranked([1], [2], [2]), np.arange(3), 7, language="zh", ks=(1,))
    found = scores.to_json()
    assert (found["direction"], found["language"], found["queries"], found["documents"]) == (TEXT_TO_IMAGE, "zh", 3, 7)
    assert found["metrics"]["R@1"][0] == 0.333333
    assert found["metrics"][MEDIAN_RANK][0] == 2
    assert list(found["metrics"]) == [
        "R@1", "recall@1", "precision@1", "F1@1", "nDCG@1", "MRR", "mAP", MEDIAN_RANK, MEAN_RANK,
    ]


def test_what_papers_print_in_percent():
    shown = score(TEXT_TO_IMAGE, ranked([1]), np.arange(1), 7, ks=(5,)).estimates
    assert [name for name in shown if in_percent(name)] == ["R@5", "recall@5", "precision@5", "F1@5"]


def test_estimates_in_json():
    assert Estimate(1 / 3, np.float32(0.25), 1).to_json() == [0.333333, 0.25, 1.0]


class TestRSum:
    def test_of_both_directions_in_percent(self):
        by_text = score(TEXT_TO_IMAGE, ranked([1], [3], [11], [6]), np.array([0, 0, 1, 1]), 20)
        by_image = score(IMAGE_TO_TEXT, ranked([1, 2], [7, 30]), np.array([0, 1]), 40)
        # Text to image 25 + 50 + 75, image to text 50 + 50 + 100.
        found = r_sum([by_text, by_image])
        assert found.value == pytest.approx(350)
        # Image 0 alone: 50 + 100 + 100 and 3 x 100; image 1 alone: 0 + 0 + 50 and 0 + 0 + 100.
        assert (found.low, found.high) == (pytest.approx(150), pytest.approx(550))

    def test_its_interval_knows_that_directions_vary_together(self):
        """Both directions fail on the same images: their sum varies as much as the two of them together."""
        ranks = np.random.default_rng(0).choice([1, 50], 40)
        each = [score(direction, ranked(*ranks[:, None]), np.arange(40), 60) for direction in (TEXT_TO_IMAGE, IMAGE_TO_TEXT)]
        alone, both = r_sum(each[:1]), r_sum(each)
        assert both.high - both.low == pytest.approx(2 * (alone.high - alone.low))

    def test_everything_right_is_600(self):
        perfect = [score(direction, ranked([1], [1]), np.arange(2), 9) for direction in (TEXT_TO_IMAGE, IMAGE_TO_TEXT)]
        assert r_sum(perfect).value == 600
