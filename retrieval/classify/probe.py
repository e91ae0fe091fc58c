"""The linear probe: what a logistic regression on image vectors can tell apart."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval.errors import TrainingError

log = logging.getLogger("retrieval")

# Inverse strength of the L2 penalty. On unit vectors useful values lie well above the usual 1.
C_GRID = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)
C_UNCHOSEN = 10.0
FOLDS = 3
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class ProbeSettings:
    """shots: images per class to learn from, None for all. test_share: of a data set not divided."""

    shots: int | None = None
    test_share: float = 0.25


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A fitted probe. c_chosen: whether cross-validation chose C, or there were too few images."""

    c: float
    c_chosen: bool
    converged: bool
    train_images: int
    weights: np.ndarray  # (classes, d) float64
    biases: np.ndarray  # (classes,)

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """Of vectors (n, d), larger is better: (n, classes) float64."""
        return vectors @ self.weights.T + self.biases

    @property
    def sentence(self) -> str:
        """Where C came from."""
        if not self.c_chosen:
            return f"C = {self.c:g}; its {self.train_images} training images are too few to choose by."
        grid = ", ".join(f"{c:g}" for c in C_GRID)
        return (f"C = {self.c:g} of {grid}, chosen by {FOLDS}-fold cross-validation on its "
                f"{self.train_images} training images alone.")

    def to_json(self) -> dict[str, Any]:
        return {
            "C": self.c, "C_chosen": self.c_chosen, "C_grid": list(C_GRID), "folds": FOLDS,
            "train_images": self.train_images, "converged": self.converged,
        }


def require_scikit_learn() -> None:
    """Before any long work. Raises TrainingError if it is not installed."""
    try:
        import sklearn.linear_model  # noqa: F401
    except ImportError as error:
        raise TrainingError(
            "The linear probe needs scikit-learn, which is not installed. Install it: "
            "pip install 'crossmodal-retrieval[probe]'"
        ) from error


def fit_probe(vectors: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> LinearProbe:
    """Fit a logistic regression (L2 penalty, L-BFGS, at most 1000 iterations).

    C is the value of C_GRID with the highest accuracy in 3-fold cross-validation over these images
    alone, of equals the one with the lowest log loss; 10 if no two classes have two images. Folds
    are stratified, classes with one image sit out. A fit that has not converged is told as a
    warning in the log.

    vectors  (n, d) float32 unit rows
    labels   (n,) int, every class 0..c-1 at least once
    seed     of the folds

    Raises ValueError for fewer than two classes.
    """
    vectors = vectors.astype(np.float64)  # in float32 L-BFGS stalls at large C
    folds = stratified_folds(labels, FOLDS, seed=seed)
    several = np.bincount(labels)[labels] > 1
    chosen = len(np.unique(labels[several])) > 1
    c = _best_c(vectors[several], labels[several], folds[several]) if chosen else C_UNCHOSEN
    ((model, converged),) = _fitted(vectors, labels, [c])
    if not converged:
        log.warning(
            "The linear probe had not converged after %d iterations (C = %g); its scores may still "
            "move a little.", MAX_ITERATIONS, c,
        )
    weights, biases = model.coef_, model.intercept_
    if len(weights) == 1:  # of two classes scikit-learn keeps the second's score alone
        weights, biases = np.vstack([-weights, weights]), np.concatenate([-biases, biases])
    return LinearProbe(c, chosen, converged, len(labels), weights, biases)


def split_by_class(labels: np.ndarray, test_share: float, *, seed: int = 0) -> np.ndarray:
    """Which images are for testing: a mask (n,), the share of each class, rounded.

    A class of two images or more keeps at least one on either side; of one, it is for training.
    """
    test = np.zeros(len(labels), bool)
    for members in _shuffled_classes(labels, seed):
        wanted = round(test_share * len(members))
        test[members[: min(max(1, wanted), len(members) - 1)]] = True
    return test


def few_per_class(labels: np.ndarray, shots: int, *, seed: int = 0) -> np.ndarray:
    """Which images to learn from: a mask (n,) with `shots` of each class, or all that it has."""
    chosen = np.zeros(len(labels), bool)
    for members in _shuffled_classes(labels, seed):
        chosen[members[:shots]] = True
    return chosen


def stratified_folds(labels: np.ndarray, folds: int, *, seed: int = 0) -> np.ndarray:
    """The fold of each image, 0..folds-1: int64 (n,). A class spreads over as many as it can."""
    order = np.concatenate(_shuffled_classes(labels, seed))
    fold = np.empty(len(labels), np.int64)
    fold[order] = np.arange(len(labels)) % folds
    return fold


def _shuffled_classes(labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """Positions of each class's images in random order."""
    chance = np.random.default_rng(seed)
    return [chance.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]


def _best_c(vectors: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> float:
    _, labels = np.unique(labels, return_inverse=True)  # 0..c-1: classes may have been set aside
    right, losses = np.zeros(len(C_GRID)), np.zeros(len(C_GRID))
    for fold in np.unique(folds):
        held_out = folds == fold
        truth = labels[held_out]
        for at, (model, _) in enumerate(_fitted(vectors[~held_out], labels[~held_out], C_GRID)):
            chances = model.predict_proba(vectors[held_out])  # (m, c)
            right[at] += (chances.argmax(axis=1) == truth).sum()
            losses[at] -= np.log(chances[np.arange(len(truth)), truth] + 1e-300).sum()
    # A few images leave many values equally right; the loss still tells how sure they are.
    return min(zip(-right, losses, C_GRID))[2]


def _fitted(vectors: np.ndarray, labels: np.ndarray, values_of_c: Any) -> Any:
    """Yield (model, whether it converged) for each C, each starting where the one before ended."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
    for c in values_of_c:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.set_params(C=c).fit(vectors, labels)
        yield model, not any(issubclass(one.category, ConvergenceWarning) for one in caught)
