"""Bootstrap intervals for means over queries: how far another sample of images might move a number.

Captions of one image rise and fall together, so whole images are drawn, with all their queries
(the cluster bootstrap); drawing captions one by one would make intervals too narrow. The same seed
draws the same images, so differences between two encoders or indexes are paired by construction.
Intervals are percentiles of the drawn means (Efron & Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 1000
LEVEL = 0.95
_DRAWS_IN_MEMORY = 2**23


@dataclass(frozen=True)
class Estimate:
    """A number over queries, and the low and high ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> list[float | None]:
        """[value, low, high]; null where there is no number."""
        numbers = (float(one) for one in (self.value, self.low, self.high))
        return [round(one, 6) if math.isfinite(one) else None for one in numbers]


UNKNOWN = Estimate(math.nan, math.nan, math.nan)  # of no query with a right answer


def resampled_means(
    values: ArrayLike, *, clusters: ArrayLike | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Return the mean of `values` under each resample: (resamples,), or (resamples, m).

    values    (q,) or (q, m), one column per metric; nan values are left out of their mean
    clusters  (q,) integers: queries that are drawn together; None draws queries one by one

    Raises ValueError if there are no queries or the two disagree on q.
    """
    values = np.asarray(values, np.float64)
    members, n = _compact(clusters, len(values))
    columns = values.reshape(len(values), -1)  # (q, m)
    known = ~np.isnan(columns)
    sums = _per_cluster(np.where(known, columns, 0.0), members, n)  # (c, m)
    counts = _per_cluster(known.astype(np.float64), members, n)  # (c, m)
    drawn = [  # counts may all be zero in a draw of a metric that few queries have
        np.divide(draws @ sums, draws @ counts, out=np.full((len(draws), columns.shape[1]), np.nan),
                  where=(draws @ counts) > 0)
        for draws in _draws(n, resamples, seed)
    ]
    return np.concatenate(drawn).reshape(resamples, *values.shape[1:])


def percentile_interval(drawn: np.ndarray, *, level: float = LEVEL) -> np.ndarray:
    """Return low and high of the central `level` of draws (resamples,): (2,); of (resamples, m): (m, 2)."""
    tail = 100 * (1 - level) / 2
    unknown = np.isnan(drawn).all(axis=0)  # numpy would warn of these
    low_and_high = np.nanpercentile(np.where(unknown, 0.0, drawn), [tail, 100 - tail], axis=0)  # (2, ...)
    return np.where(unknown, np.nan, low_and_high).T


def mean_intervals(
    values: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> np.ndarray:
    """Return the interval of the mean of fractions: (2,) for values (q,), (m, 2) for values (q, m).

    Where every query has 1, or every query 0, all draws agree and the bootstrap knows nothing; the
    exact binomial bound of Clopper and Pearson over the clusters stands in: nineteen hits of
    nineteen are 82 to 100 percent, not 100 to 100.

    Raises ValueError as `resampled_means` does.
    """
    values = np.asarray(values, np.float64)
    drawn = resampled_means(values, clusters=clusters, resamples=resamples, seed=seed)
    intervals = percentile_interval(drawn, level=level).reshape(-1, 2)  # (m, 2)
    members, n = _compact(clusters, len(values))
    for column, interval in zip(values.reshape(len(values), -1).T, intervals):
        known = ~np.isnan(column)
        if not known.any():
            continue
        unseen = ((1 - level) / 2) ** (1 / len(np.unique(members[known])))
        if (column[known] == 1).all():
            interval[0] = unseen
        elif (column[known] == 0).all():
            interval[1] = 1 - unseen
    return intervals.reshape(*values.shape[1:], 2)


def median_interval(
    values: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> np.ndarray:
    """Return the interval of the median of values (q,): (2,); nan values are left out.

    Raises ValueError as `resampled_means` does.
    """
    values = np.asarray(values, np.float64)
    members, n = _compact(clusters, len(values))
    order = np.argsort(values, kind="stable")
    order = order[~np.isnan(values[order])]
    if not order.size:
        return np.full(2, np.nan)
    ascending = values[order]
    medians = []
    for draws in _draws(n, resamples, seed, width=max(n, len(order))):
        times = draws[:, members[order]].cumsum(axis=1)  # (b, q): how often each value or a lower one is drawn
        half = times[:, -1:] / 2
        lower = np.argmax(times >= half, axis=1)
        upper = np.argmax(times > half, axis=1)
        middle = (ascending[lower] + ascending[upper]) / 2
        medians.append(np.where(half[:, 0] > 0, middle, np.nan))
    return percentile_interval(np.concatenate(medians), level=level)


def _compact(clusters: ArrayLike | None, q: int) -> tuple[np.ndarray, int]:
    """Return the cluster of each query as 0..c-1, and c."""
    if q == 0:
        raise ValueError("there are no queries to resample")
    if clusters is None:
        return np.arange(q), q
    clusters = np.asarray(clusters)
    if clusters.shape != (q,):
        raise ValueError(f"{q} queries need as many clusters, not {clusters.shape}")
    names, members = np.unique(clusters, return_inverse=True)
    return members, len(names)


def _per_cluster(columns: np.ndarray, members: np.ndarray, n: int) -> np.ndarray:
    sums = [np.bincount(members, weights=column, minlength=n) for column in columns.T]
    return np.stack(sums, axis=1)


def _draws(n: int, resamples: int, seed: int, width: int = 0) -> Iterator[np.ndarray]:
    """How often each of n clusters is drawn, block by block of resamples: (b, n).

    width  numbers that the caller holds per resample, if more than n
    """
    random = np.random.default_rng(seed)
    block = max(1, _DRAWS_IN_MEMORY // max(n, width))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = random.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
