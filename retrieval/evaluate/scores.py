"""Scores of one direction: metrics per query, their means, and 95 % bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from retrieval import metrics
from retrieval.bootstrap import (
    RESAMPLES, UNKNOWN, Estimate, mean_intervals, median_interval, percentile_interval, resampled_means,
)
from retrieval.metrics import RelevantRanks

K = (1, 5, 10)
TEXT_TO_IMAGE, IMAGE_TO_TEXT = "text_to_image", "image_to_text"
# Of the first right answer. Lower ranks are better; of every other metric higher values are.
MEDIAN_RANK, MEAN_RANK = RANKS = ("median_rank", "mean_rank")
_FROM_0_TO_1 = ("MRR", "mAP", "nDCG")

_AT_K: dict[str, Callable[[RelevantRanks, int], np.ndarray]] = {
    "R": metrics.hit_rate,
    "recall": metrics.recall,
    "precision": metrics.precision,
    "F1": metrics.f1,
    "nDCG": metrics.ndcg,
}
_OVERALL: dict[str, Callable[[RelevantRanks], np.ndarray]] = {
    "MRR": metrics.reciprocal_rank,
    "mAP": metrics.average_precision,
}


@dataclass(frozen=True)
class Sampling:
    """How intervals are drawn; equal sampling pairs any two results."""

    resamples: int = RESAMPLES
    seed: int = 0


@dataclass(frozen=True, eq=False)
class DirectionScores:
    """One direction in one language.

    queries    that have a right answer; documents: what they are ranked against
    clusters   (q,) the image of each query; queries of one image are resampled together
    per_query  metric name -> (q,) values, nan where a query has no right answer
    estimates  metric name -> fraction or rank; "R@5" is the papers' name for the hit rate
    """

    direction: str
    language: str
    queries: int
    documents: int
    ranks: RelevantRanks
    clusters: np.ndarray
    per_query: dict[str, np.ndarray]
    estimates: dict[str, Estimate]

    @property
    def hit_rates(self) -> dict[int, float]:
        """R@k by k, as a fraction."""
        return {int(name[2:]): one.value for name, one in self.estimates.items() if name.startswith("R@")}

    def to_json(self) -> dict[str, object]:
        """Fractions and ranks as [value, low, high]; nothing in percent."""
        return {
            "direction": self.direction, "language": self.language, "queries": self.queries,
            "documents": self.documents,
            "metrics": {name: one.to_json() for name, one in self.estimates.items()},
        }


def in_percent(metric: str) -> bool:
    """Whether papers print it in percent: not ranks, nor MRR, mAP and nDCG, which go from 0 to 1."""
    return metric not in RANKS and not metric.startswith(_FROM_0_TO_1)


def score(
    direction: str,
    ranks: RelevantRanks,
    clusters: np.ndarray,
    documents: int,
    *,
    language: str = "",
    ks: Sequence[int] = K,
    sampling: Sampling = Sampling(),
) -> DirectionScores:
    """Every metric of one direction. clusters (q,): the image that each query belongs to."""
    per_query = {f"{name}@{k}": at_k(ranks, k) for name, at_k in _AT_K.items() for k in ks}
    per_query |= {name: overall(ranks) for name, overall in _OVERALL.items()}
    first = metrics.first_rank(ranks)
    if ranks.answerable.any():
        estimates = _estimates(per_query, first, ranks.answerable, clusters, sampling)
    else:
        estimates = dict.fromkeys([*per_query, *RANKS], UNKNOWN)
    per_query[MEDIAN_RANK] = per_query[MEAN_RANK] = first
    return DirectionScores(
        direction, language, int(ranks.answerable.sum()), documents, ranks, clusters, per_query, estimates
    )


def _estimates(
    fractions: dict[str, np.ndarray], first: np.ndarray, answerable: np.ndarray, clusters: np.ndarray, sampling: Sampling
) -> dict[str, Estimate]:
    """fractions: metric name -> (q,) values; first (q,): ranks. At least one query is answerable."""
    chances = {"clusters": clusters, "resamples": sampling.resamples, "seed": sampling.seed}
    table = np.stack(list(fractions.values()), axis=1)  # (q, m)
    estimates = {
        name: Estimate(float(mean), *map(float, interval))
        for name, mean, interval in zip(fractions, np.nanmean(table, axis=0), mean_intervals(table, **chances))
    }
    known = first[answerable]
    estimates[MEDIAN_RANK] = Estimate(float(np.median(known)), *map(float, median_interval(first, **chances)))
    drawn = resampled_means(first, **chances)
    estimates[MEAN_RANK] = Estimate(float(known.mean()), *map(float, percentile_interval(drawn)))
    return estimates


def r_sum(directions: Sequence[DirectionScores], sampling: Sampling = Sampling()) -> Estimate:
    """The sum of R@k over k and directions, in percent: at most 600 for k 1, 5, 10 and two directions.

    Both directions are drawn over the same images, so the interval knows that they vary together.
    nan if a direction has no query with a right answer.
    """
    if not all(one.queries for one in directions):
        return UNKNOWN
    total, drawn = 0.0, np.zeros(sampling.resamples)
    for one in directions:
        hits = np.stack([values for name, values in one.per_query.items() if name.startswith("R@")], axis=1)
        answerable = one.ranks.answerable
        means = resampled_means(
            hits[answerable], clusters=one.clusters[answerable], resamples=sampling.resamples, seed=sampling.seed
        )
        total += 100 * float(hits[answerable].mean(axis=0).sum())
        drawn += 100 * means.sum(axis=1)
    return Estimate(total, *map(float, percentile_interval(drawn)))
