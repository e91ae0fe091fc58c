"""Is one model better than another, or was it luck? Paired bootstrap over the same queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.bootstrap import UNKNOWN, Estimate, percentile_interval, resampled_means
from retrieval.evaluate.scores import MEDIAN_RANK, DirectionScores, Sampling


@dataclass(frozen=True)
class Difference:
    """`model` minus `reference` in the mean of one metric, over the same queries."""

    model: str
    reference: str
    direction: str
    language: str
    metric: str
    estimate: Estimate

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.estimate.low > 0 or self.estimate.high < 0

    def to_json(self) -> dict[str, object]:
        return {
            "model": self.model, "reference": self.reference, "direction": self.direction,
            "language": self.language, "metric": self.metric, "difference": self.estimate.to_json(),
            "clear": self.is_clear,
        }


def paired_difference(
    values: np.ndarray, reference: np.ndarray, clusters: np.ndarray, sampling: Sampling = Sampling()
) -> Estimate:
    """Mean of values - reference, (q,) each, and its interval; nan where neither was judged."""
    difference = np.asarray(values, np.float64) - np.asarray(reference, np.float64)
    if np.isnan(difference).all():
        return UNKNOWN
    drawn = resampled_means(difference, clusters=clusters, resamples=sampling.resamples, seed=sampling.seed)
    return Estimate(float(np.nanmean(difference)), *map(float, percentile_interval(drawn)))


def differences(
    model: str,
    scores: Sequence[DirectionScores],
    reference: str,
    reference_scores: Sequence[DirectionScores],
    sampling: Sampling = Sampling(),
) -> list[Difference]:
    """Every metric of every direction and language, except the median rank, which is no mean.

    Both must have been scored on the same task.
    """
    return [
        Difference(model, reference, ours.direction, ours.language, metric,
                   paired_difference(values, theirs.per_query[metric], ours.clusters, sampling))
        for ours, theirs in zip(scores, reference_scores, strict=True)
        for metric, values in ours.per_query.items() if metric != MEDIAN_RANK
    ]
