"""How well tags were given, where an image may have several labels, or none."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Sequence

import numpy as np

from retrieval.bootstrap import UNKNOWN, Estimate, mean_intervals
from retrieval.classify.scores import precision_recall_f1


@dataclass(frozen=True)
class LabelScores:
    """One label. support: images of which it is true; given: images that were given it."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    given: int


@dataclass(frozen=True)
class TagScores:
    """Fractions.

    accuracy  images with a true label whose best-scoring label is a true one
    exact     images with all of their true labels and no other
    micro     precision, recall and F1 of all tags as one; macro: their plain means over the labels
              that are true of some image
    """

    images: int
    accuracy: Estimate
    exact: Estimate
    micro: tuple[float, float, float]
    macro: tuple[float, float, float]
    per_label: list[LabelScores]

    @property
    def estimates(self) -> dict[str, Estimate]:
        """What has an interval, by name."""
        return {"accuracy": self.accuracy, "exact": self.exact}

    @property
    def means(self) -> dict[str, float]:
        """The rest, by name."""
        return {
            f"{kind}_{name}": value for kind, values in (("micro", self.micro), ("macro", self.macro))
            for name, value in zip(("precision", "recall", "f1"), values)
        }

    def to_json(self) -> dict[str, Any]:
        """Fractions; those with an interval as [value, low, high]."""
        return {
            "images": self.images, **{name: one.to_json() for name, one in self.estimates.items()}, **self.means,
            "per_label": [asdict(one) for one in self.per_label],
        }


def score_tags(
    given: np.ndarray, best: np.ndarray, true: np.ndarray, labels: Sequence[str], *, seed: int = 0
) -> TagScores:
    """Judge tags by the true labels.

    given   (n, c) bool, which label each image was given
    best    (n,) int, the label that scores best, given or not
    true    (n, c) bool
    labels  c names
    seed    of the intervals' resampling

    Raises ValueError without an image.
    """
    hits, tagged, support = (given & true).sum(0), given.sum(0), true.sum(0)  # (c,) each
    precision, recall, f1 = precision_recall_f1(hits, tagged, support)
    there = support > 0
    together = precision_recall_f1(hits.sum(), tagged.sum(), support.sum())
    right = np.where(true.any(1), true[np.arange(len(true)), best], np.nan)  # (n,)
    return TagScores(
        images=len(true),
        accuracy=_estimate(right, seed),
        exact=_estimate((given == true).all(1).astype(float), seed),
        micro=tuple(map(float, together)),
        macro=tuple(float(one[there].mean()) if there.any() else 0.0 for one in (precision, recall, f1)),
        per_label=[
            LabelScores(*one)
            for one in zip(labels, precision.tolist(), recall.tolist(), f1.tolist(), support.tolist(), tagged.tolist())
        ],
    )


def _estimate(values: np.ndarray, seed: int) -> Estimate:
    if np.isnan(values).all():
        return UNKNOWN
    return Estimate(float(np.nanmean(values)), *np.clip(mean_intervals(values, seed=seed), 0, 1).tolist())
