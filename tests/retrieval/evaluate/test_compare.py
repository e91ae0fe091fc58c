import json
import math

import numpy as np
import pytest

from retrieval.bootstrap import Estimate, percentile_interval, resampled_means
from retrieval.corpus.captions import Caption
from retrieval.evaluate.compare import Difference, differences, paired_difference
from retrieval.evaluate.scores import MEAN_RANK, Sampling

IMAGES = {"a.png": 0, "b.png": 40, "c.png": 80}
GOOD = {Caption("a.png", "ant"): 1, Caption("b.png", "bee"): 41, Caption("c.png", "cow"): 79}
POOR = {Caption("a.png", "ant"): 35, Caption("b.png", "bee"): 41, Caption("c.png", "cow"): 5}  # ranks 2, 1, 3


class TestPairedDifference:
    def test_mean_and_interval(self):
        ours, theirs = np.array([1.0, 1, 0, 1]), np.array([0.0, 1, 0, 0])
        found = paired_difference(ours, theirs, np.arange(4), Sampling(200, seed=2))
        drawn = resampled_means([1, 0, 0, 1], resamples=200, seed=2)
        low, high = percentile_interval(drawn)
        assert found == Estimate(0.5, low, high)
        assert 0 <= low < 0.5 < high <= 1

    def test_clusters_are_drawn_whole(self):
        found = paired_difference(np.array([1.0, 0, 1, 0]), np.zeros(4), np.array([0, 0, 1, 1]))
        assert found == Estimate(0.5, 0.5, 0.5)

    def test_the_other_way_round_is_the_negative(self):
        ours, theirs = np.random.default_rng(0).random((2, 40))
        there, back = (paired_difference(*pair, np.arange(40)) for pair in ((ours, theirs), (theirs, ours)))
        assert [back.value, back.low, back.high] == pytest.approx([-there.value, -there.high, -there.low])

    def test_of_itself_is_nothing(self):
        values = np.random.default_rng(0).random(20)
        assert paired_difference(values, values, np.arange(20)) == Estimate(0, 0, 0)

    def test_what_was_not_judged_is_left_out(self):
        found = paired_difference(np.array([1.0, math.nan]), np.array([0.0, math.nan]), np.arange(2))
        assert found == Estimate(1, 1, 1)
        nothing = paired_difference(np.full(2, math.nan), np.ones(2), np.arange(2))
        assert all(math.isnan(one) for one in (nothing.value, nothing.low, nothing.high))


class TestDifferences:
    @pytest.fixture
    def found(self, compared):
        good, poor = compared(IMAGES, GOOD), compared(IMAGES, POOR)
        return differences("good", good.directions, "poor", poor.directions, Sampling(100))

    def test_every_metric_but_the_median(self, found):
        at_k = [f"{name}@{k}" for name in ("R", "recall", "precision", "F1", "nDCG") for k in (1, 5, 10)]
        names = [*at_k, "MRR", "mAP", MEAN_RANK]
        assert [(one.direction, one.metric) for one in found] == [
            (direction, name) for direction in ("text_to_image", "image_to_text") for name in names
        ]
        assert {(one.model, one.reference, one.language) for one in found} == {("good", "poor", "")}

    def test_values(self, found):
        by_name = {(one.direction, one.metric): one.estimate.value for one in found}
        assert by_name["text_to_image", "R@1"] == pytest.approx(2 / 3)
        assert by_name["text_to_image", "R@5"] == 0
        assert by_name["text_to_image", "MRR"] == pytest.approx(1 - (1 / 2 + 1 + 1 / 3) / 3)
        assert by_name["text_to_image", MEAN_RANK] == -1

    def test_other_tasks_cannot_be_compared(self, compared):
        good = compared(IMAGES, GOOD)
        with pytest.raises(ValueError, match="shorter"):
            differences("good", good.directions, "poor", good.directions[:1])


@pytest.mark.parametrize(
    ("low", "high", "clear"), [(0.01, 0.2, True), (-0.2, -0.01, True), (-0.1, 0.1, False), (0, 0.2, False)]
)
def test_clear_is_what_leaves_out_zero(low, high, clear):
    difference = Difference("good", "poor", "text_to_image", "zh", "R@1", Estimate((low + high) / 2, low, high))
    assert difference.is_clear is clear
    assert json.loads(json.dumps(difference.to_json())) == {
        "model": "good", "reference": "poor", "direction": "text_to_image", "language": "zh", "metric": "R@1",
        "difference": pytest.approx([(low + high) / 2, low, high]), "clear": clear,
    }
