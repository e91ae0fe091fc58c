import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, precision_recall_fscore_support

from retrieval.bootstrap import mean_intervals
from retrieval.classify.scores import ClassScores, score_classes


def judged(predictions, labels, classes):
    """Scores of a judge who gives 1 to its prediction and 0 to the others."""
    names = [f"c{number}" for number in range(classes)]
    return score_classes(np.eye(classes)[predictions], np.array(labels), names, names)


def test_a_confusion_matrix_counted_by_hand():
    # true 0: 3 right, 1 taken for 1;  true 1: 1 right, 1 taken for 0;  true 2: both taken for 0
    scores = judged([0, 0, 0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1, 2, 2], 3)
    assert scores.per_class == [
        ClassScores("c0", "c0", precision=3 / 6, recall=3 / 4, f1=6 / 10, support=4),
        ClassScores("c1", "c1", precision=1 / 2, recall=1 / 2, f1=2 / 4, support=2),
        ClassScores("c2", "c2", precision=0.0, recall=0.0, f1=0.0, support=2),  # never predicted
    ]
    assert scores.images == 8
    assert scores.top_1.value == 4 / 8
    assert scores.balanced.value == scores.macro_recall == pytest.approx((3 / 4 + 1 / 2) / 3, abs=1e-15)
    assert scores.macro_precision == pytest.approx(1 / 3, abs=1e-15)
    assert scores.macro_f1 == pytest.approx(1.1 / 3, abs=1e-15)


def test_agrees_with_scikit_learn():
    chance = np.random.default_rng(0)
    labels = np.concatenate([np.arange(7), chance.choice(7, 500, p=[0.4, 0.2, 0.2, 0.1, 0.05, 0.04, 0.01])])
    predictions = np.where(chance.random(507) < 0.6, labels, chance.integers(0, 6, 507))  # hardly ever 6
    scores = judged(predictions, labels, 7)
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predictions, average="macro", zero_division=0)
    assert abs(scores.macro_precision - precision) < 1e-12
    assert abs(scores.macro_recall - recall) < 1e-12
    assert abs(scores.macro_f1 - f1) < 1e-12
    assert abs(scores.balanced.value - balanced_accuracy_score(labels, predictions)) < 1e-12
    each = precision_recall_fscore_support(labels, predictions, zero_division=0)
    ours = np.array([(one.precision, one.recall, one.f1, one.support) for one in scores.per_class]).T
    np.testing.assert_allclose(ours, each, atol=1e-12)


def test_ties_go_to_the_lower_class():
    names = ["a", "b"]
    scores = score_classes(np.zeros((3, 2)), np.array([0, 1, 1]), names, names)
    assert [one.recall for one in scores.per_class] == [1.0, 0.0]
    assert scores.top_1.value == 1 / 3


def test_top_5_looks_at_five_with_ties_by_class():
    names = list("abcdef")
    rows = np.array([[0, 5, 4, 3, 2, 1.0], [6, 1, 5, 4, 3, 2], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0],
                     [0, 0, 0, 9, 0, 0], [0, 0, 9, 0, 0, 0]])
    labels = np.array([0, 1, 2, 5, 3, 4])  # ranks 6, 6, 3, 6, 1, 5 (of d's scores: 1)
    labels[5] = 4  # c first, then a, b, d, e
    assert score_classes(rows, labels, names, names).top_5.value == 3 / 6


def test_top_5_says_nothing_of_five_classes():
    scores = judged([0, 1, 2, 3, 0], [0, 1, 2, 3, 4], 5)
    assert scores.top_5 is None and "top_5" not in scores.to_json()


def test_intervals_are_those_of_the_bootstrap():
    labels = np.repeat([0, 1], 20)
    predictions = np.where(np.arange(40) % 4 == 0, 1 - labels, labels)
    scores = judged(predictions, labels, 2)
    low, high = mean_intervals((predictions == labels).astype(float))
    assert (scores.top_1.low, scores.top_1.high) == (low, high)
    assert low < 0.75 < high
    # with classes of a size, balanced accuracy is accuracy
    assert (scores.balanced.low, scores.balanced.high) == pytest.approx((low, high), abs=1e-12)


def test_a_small_class_widens_the_interval_of_balanced_accuracy():
    labels = np.repeat([0, 1], [96, 4])
    predictions = np.where(np.arange(100) % 2 == 0, labels, 1 - labels)
    scores = judged(predictions, labels, 2)
    assert scores.top_1.value == scores.balanced.value == 0.5
    assert 0 <= scores.balanced.low < scores.top_1.low < scores.top_1.high < scores.balanced.high <= 1


def test_all_right_is_not_certain():
    scores = judged([0, 0, 0, 1], [0, 0, 0, 1], 2)
    bound = 0.025 ** (1 / 4)  # Clopper and Pearson, four of four
    for one in (scores.top_1, scores.balanced):
        assert (one.value, one.low, one.high) == (1.0, pytest.approx(bound), 1.0)


def test_a_class_without_an_image_is_refused():
    with pytest.raises(ValueError, match="need an image each"):
        judged([0, 0], [0, 0], 2)
    with pytest.raises(ValueError, match="nan"):
        score_classes(np.array([[np.nan, 1], [0, 1]]), np.array([0, 1]), ["a", "b"], ["a", "b"])
