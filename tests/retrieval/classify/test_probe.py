import logging
import sys

import numpy as np
import pytest

from retrieval.classify import probe as room
from retrieval.classify.probe import (
    C_GRID, C_UNCHOSEN, few_per_class, fit_probe, require_scikit_learn, split_by_class, stratified_folds,
)
from retrieval.errors import TrainingError


def around(centres, each, spread, seed):
    """Unit vectors around the centres, and whose they are."""
    labels = np.repeat(np.arange(len(centres)), each)
    noise = np.random.default_rng(seed).normal(0, spread, (len(labels), centres.shape[1]))
    vectors = (centres[labels] + noise).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels


def accuracy(probe, vectors, labels):
    return (probe.scores(vectors).argmax(axis=1) == labels).mean()


@pytest.mark.parametrize("classes", [2, 4])
def test_separable_classes_are_told_apart(classes):
    centres = np.eye(classes, 8)
    probe = fit_probe(*around(centres, 20, 0.05, seed=0))
    assert probe.c_chosen and probe.converged and probe.c in C_GRID and probe.train_images == 20 * classes
    assert accuracy(probe, *around(centres, 50, 0.05, seed=1)) == 1.0


def test_what_no_line_separates_stays_unseparated():
    """Opposite corners of a square, exclusive or: no linear rule gets more than three of four right."""
    corners = np.array([[1, 1], [-1, -1], [1, -1], [-1, 1]]) / np.sqrt(2)
    vectors, corner = around(corners, 50, 0.01, seed=0)
    probe = fit_probe(vectors, corner // 2)
    assert 0.25 <= accuracy(probe, *(lambda v, c: (v, c // 2))(*around(corners, 50, 0.01, seed=1))) <= 0.75


def test_labels_drawn_by_lot_cannot_be_learned():
    chance = np.random.default_rng(0)
    vectors, _ = around(np.zeros((1, 16)), 400, 1.0, seed=2)
    labels = chance.integers(0, 2, 400)
    probe = fit_probe(vectors[:200], labels[:200])
    assert 0.35 < accuracy(probe, vectors[200:], labels[200:]) < 0.65


def test_scores_are_scikit_learns():
    from sklearn.linear_model import LogisticRegression

    vectors, labels = around(np.eye(3, 6), 30, 0.4, seed=0)
    probe = fit_probe(vectors, labels)
    model = LogisticRegression(C=probe.c, max_iter=1000).fit(vectors.astype(np.float64), labels)
    np.testing.assert_allclose(probe.scores(vectors), model.decision_function(vectors.astype(np.float64)), atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_c_is_the_best_in_cross_validation(seed):
    """The chosen C is that of a search written out at length."""
    from sklearn.linear_model import LogisticRegression

    vectors, labels = around(np.eye(3, 12), [6, 12, 24], 0.5, seed)
    folds = stratified_folds(labels, 3, seed=0)
    found = []
    for c in C_GRID:
        chances = np.zeros((len(labels), 3))
        for fold in range(3):
            model = LogisticRegression(C=c, max_iter=1000).fit(vectors[folds != fold], labels[folds != fold])
            chances[folds == fold] = model.predict_proba(vectors[folds == fold])
        own = chances[np.arange(len(labels)), labels]
        found.append(((chances.argmax(axis=1) == labels).sum(), np.log(own).sum(), c))
    assert len({right for right, _, _ in found}) > 2  # else accuracy would have no say
    assert fit_probe(vectors, labels).c == max(found)[2]


def test_one_image_per_class_chooses_no_c():
    probe = fit_probe(np.eye(3, dtype=np.float32), np.arange(3))
    assert (probe.c, probe.c_chosen) == (C_UNCHOSEN, False)
    assert accuracy(probe, np.eye(3), np.arange(3)) == 1.0
    assert probe.sentence == "C = 10; its 3 training images are too few to choose by."


def test_a_class_with_one_image_sits_the_choice_out():
    vectors, labels = around(np.eye(3, 6), 5, 0.05, seed=0)
    probe = fit_probe(vectors[:11], labels[:11])  # of the third class, one
    assert probe.c_chosen and accuracy(probe, vectors, labels) == 1.0


def test_two_images_of_two_classes_are_enough_to_choose():
    vectors, labels = around(np.eye(2, 6), 2, 0.05, seed=0)
    assert fit_probe(vectors, labels).c_chosen


def test_not_converging_is_a_sentence(monkeypatch, caplog):
    monkeypatch.setattr(room, "MAX_ITERATIONS", 1)
    with caplog.at_level(logging.WARNING, "retrieval"):
        probe = fit_probe(*around(np.eye(3, 6), 10, 0.4, seed=0))
    assert not probe.converged and probe.to_json()["converged"] is False
    assert [record.getMessage() for record in caplog.records] == [
        f"The linear probe had not converged after 1 iterations (C = {probe.c:g}); its scores may still move a little."
    ]


def test_split_takes_the_share_of_each_class():
    labels = np.repeat(np.arange(4), [40, 8, 2, 1])
    test = split_by_class(labels, 0.25, seed=0)
    assert np.bincount(labels[test], minlength=4).tolist() == [10, 2, 1, 0]
    assert np.array_equal(test, split_by_class(labels, 0.25, seed=0))
    assert not np.array_equal(test, split_by_class(labels, 0.25, seed=1))
    assert np.bincount(labels[split_by_class(labels, 0.99)], minlength=4).tolist() == [39, 7, 1, 0]


def test_shots_take_as_many_of_each_class():
    labels = np.repeat(np.arange(3), [5, 3, 1])
    assert np.bincount(labels[few_per_class(labels, 3)]).tolist() == [3, 3, 1]


def test_folds_spread_every_class():
    labels = np.repeat(np.arange(5), [2, 3, 7, 2, 9])
    folds = stratified_folds(labels, 3, seed=4)
    for label in range(5):
        counts = np.bincount(folds[labels == label], minlength=3)
        assert counts.max() - counts.min() <= 1, label


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(TrainingError, match=r"pip install 'crossmodal-retrieval\[probe\]'"):
        require_scikit_learn()
