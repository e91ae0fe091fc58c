"""Tags judged, against a case worked out by hand."""

import math

import numpy as np
import pytest

from retrieval.classify.tag_scores import score_tags

# cat, dog, cow, owl (true of none)
TRUE = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], bool)
GIVEN = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0]], bool)
BEST = np.array([1, 0, 0, 3])  # dog: true; cat: true; cat: not


@pytest.fixture
def scores():
    return score_tags(GIVEN, BEST, TRUE, ["cat", "dog", "cow", "owl"])


def test_each_label(scores):
    cat, dog, cow, owl = scores.per_label
    assert (cat.precision, cat.recall, cat.f1, cat.support, cat.given) == (pytest.approx(2 / 3), 1.0, 0.8, 2, 3)
    assert (dog.precision, dog.recall, dog.f1, dog.support, dog.given) == (0, 0, 0, 1, 1)
    assert (cow.precision, cow.recall, cow.f1, cow.support, cow.given) == (0, 0, 0, 1, 0)
    assert (owl.label, owl.precision, owl.support, owl.given) == ("owl", 0, 0, 1)


def test_means(scores):
    # 2 hits of 5 tags given and 4 true ones
    assert scores.micro == pytest.approx((2 / 5, 2 / 4, 4 / 9))
    # of cat, dog and cow; no image is an owl
    assert scores.macro == pytest.approx((2 / 9, 1 / 3, 0.8 / 3))


def test_accuracy_is_of_images_with_a_true_label(scores):
    assert scores.images == 4
    assert scores.accuracy.value == pytest.approx(2 / 3)
    assert scores.exact.value == 0.5  # the second image, and the fourth, which has none and was given none
    assert 0 <= scores.exact.low < 0.5 < scores.exact.high <= 1


def test_json(scores):
    found = scores.to_json()
    assert found["accuracy"][0] == 0.666667 and found["micro_recall"] == 0.5 and found["images"] == 4
    assert found["per_label"][1] == {
        "label": "dog", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1, "given": 1}


def test_without_any_true_label_accuracy_is_unknown():
    scores = score_tags(GIVEN[:1], BEST[:1], np.zeros((1, 4), bool), ["cat", "dog", "cow", "owl"])
    assert math.isnan(scores.accuracy.value) and scores.macro == (0, 0, 0) and scores.micro == (0, 0, 0)
