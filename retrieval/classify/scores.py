"""How well classes were told apart: top-1, top-5, balanced accuracy, precision, recall, F1."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Sequence

import numpy as np

from retrieval.bootstrap import Estimate, mean_intervals

TOP = 5


@dataclass(frozen=True)
class ClassScores:
    """One class. support: its images; precision of a class that is never predicted is 0."""

    folder: str
    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Scores:
    """Fractions. macro: the plain mean over classes, however many images each has.

    top_5     None with five classes or fewer, where it says nothing
    balanced  balanced accuracy, which is the macro recall
    """

    images: int
    top_1: Estimate
    top_5: Estimate | None
    balanced: Estimate
    macro_precision: float
    macro_f1: float
    per_class: list[ClassScores]

    @property
    def estimates(self) -> dict[str, Estimate]:
        """What has an interval, by name."""
        top_5 = {"top_5": self.top_5} if self.top_5 else {}
        return {"top_1": self.top_1, **top_5, "balanced_accuracy": self.balanced}

    @property
    def means(self) -> dict[str, float]:
        """Plain means over classes, by name."""
        return {"macro_precision": self.macro_precision, "macro_recall": self.macro_recall,
                "macro_f1": self.macro_f1}

    @property
    def macro_recall(self) -> float:
        return self.balanced.value

    def to_json(self) -> dict[str, Any]:
        """Fractions; those with an interval as [value, low, high]."""
        return {
            "images": self.images,
            **{name: one.to_json() for name, one in self.estimates.items()},
            **self.means,
            "per_class": [asdict(one) for one in self.per_class],
        }


def score_classes(
    scores: np.ndarray, labels: np.ndarray, folders: Sequence[str], names: Sequence[str], *, seed: int = 0
) -> Scores:
    """Judge class scores by the true classes.

    scores   (n, c), larger is better; on a tie the class of lower index wins
    labels   (n,) int, 0..c-1; every class has at least one image
    folders  c folder names, names  c class names: what the result calls them
    seed     of the intervals' resampling

        precision_c = |predicted c and right| / |predicted c|, 0 if c is never predicted
        recall_c    = |predicted c and right| / |images of c|
        f1_c        = 2 |predicted c and right| / (|predicted c| + |images of c|)

    Raises ValueError if a class has no image or a score is nan.
    """
    classes = scores.shape[1]
    support = np.bincount(labels, minlength=classes)  # (c,)
    if not support.all() or len(support) > classes:
        raise ValueError(f"{classes} classes need an image each, and no image may be of another")
    ranks = _ranks(scores, labels)
    right = ranks == 1
    predictions = np.bincount(scores.argmax(axis=1), minlength=classes)
    hits = np.bincount(labels[right], minlength=classes)
    precision, recall, f1 = precision_recall_f1(hits, predictions, support)  # (c,) each
    # Every class weighs the same. Their mean is the balanced accuracy; as a ratio's linear part,
    # they vary as it does when images are drawn anew, and agree with top-1 where classes are of a size.
    weight = len(labels) / (classes * support[labels])  # (n,)
    balanced = recall.mean() + weight * (right - recall.mean())
    columns = np.column_stack([right, ranks <= TOP, balanced]).astype(np.float64)  # (n, 3)
    low, high = np.clip(mean_intervals(columns, seed=seed), 0, 1).T.tolist()
    values = [right.mean(), (ranks <= TOP).mean(), recall.mean()]
    top_1, top_5, balanced = (Estimate(float(value), *ends) for value, *ends in zip(values, low, high))
    return Scores(
        images=len(labels),
        top_1=top_1,
        top_5=top_5 if classes > TOP else None,
        balanced=balanced,
        macro_precision=float(precision.mean()),
        macro_f1=float(f1.mean()),
        per_class=[
            ClassScores(*one)
            for one in zip(folders, names, precision.tolist(), recall.tolist(), f1.tolist(),
                           support.tolist(), strict=True)
        ],
    )


def precision_recall_f1(
    hits: np.ndarray, predictions: np.ndarray, support: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of counts of one shape: precision hits / predictions, recall hits / support, and F1, their harmonic mean,
    2 hits / (predictions + support); each 0 where that divides by 0.
    """
    return hits / np.maximum(predictions, 1), hits / np.maximum(support, 1), 2 * hits / np.maximum(predictions + support, 1)


def _ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The 1-based rank of each image's own class: int64 (n,)."""
    if np.isnan(scores).any():
        raise ValueError("a class score is nan; check the vectors")
    ranks = np.empty(len(labels), np.int64)
    for image, (row, label) in enumerate(zip(scores, labels)):  # (c,): no second (n, c) in memory
        higher = np.count_nonzero(row > row[label])
        ranks[image] = 1 + higher + np.count_nonzero(row[:label] == row[label])
    return ranks
