"""What a search returns, and the one order it comes in."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np

from indexes.errors import VectorIndexError


class Matches(NamedTuple):
    """The k best rows of each query: score descending, equal scores by lower row.

    scores  (q, k) float32, inner products in [-1, 1]; -inf where there is no result
    rows    (q, k) int64 row numbers; -1 where there is no result
    """

    scores: np.ndarray
    rows: np.ndarray


def no_matches(q: int, k: int) -> Matches:
    """Return Matches that are all pads: what an empty index has to say. scores, rows (q, k)."""
    return Matches(np.full((q, k), -np.inf, dtype=np.float32), np.full((q, k), -1, dtype=np.int64))


def ranked(scores: np.ndarray, rows: np.ndarray, k: int) -> Matches:
    """Put candidates into the order that Matches promises.

    scores  (q, m) float32, any order; -inf for pads; m <= k
    rows    (q, m) int64; -1 for pads
    k       width of the result; what is missing is padded
    """
    matches = no_matches(len(scores), k)
    order = np.lexsort((rows, -scores), axis=1)  # (q, m), last key first
    m = order.shape[1]
    matches.scores[:, :m] = np.take_along_axis(scores, order, axis=1)
    matches.rows[:, :m] = np.take_along_axis(rows, order, axis=1)
    return matches


def ranked_less_bias(
    scores: np.ndarray, rows: np.ndarray, bias: np.ndarray | None, k: int
) -> Matches:
    """Put candidates into order by their scores less their rows' bias; the k best, with their scores.

    scores  (q, m) float32, any order; -inf for pads; m >= k
    rows    (q, m) int64; -1 for pads
    bias    (n,) float32 by row number; None is none
    """
    keys = scores if bias is None else np.where(rows >= 0, scores - bias[rows], -np.inf)
    order = np.lexsort((rows, -keys), axis=1)[:, :k]  # last key first
    return Matches(np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1))


def kept_first(scores: np.ndarray, rows: np.ndarray, mask: np.ndarray, k: int) -> Matches:
    """Return of each line the first k whose row counts; -1 and -inf pad.

    scores  (q, m), as they should come
    rows    (q, m) int64; -1 pads
    mask    (n,) bool, n above every row
    """
    counts = (rows >= 0) & mask[rows]  # (q, m)
    kept = counts & (counts.cumsum(axis=1) <= k)
    lines, columns = np.nonzero(kept)
    matches = no_matches(len(rows), k)
    places = kept.cumsum(axis=1)[lines, columns] - 1
    matches.scores[lines, places] = scores[lines, columns]
    matches.rows[lines, places] = rows[lines, columns]
    return matches


def too_short(rows: np.ndarray, enough: int) -> np.ndarray:
    """Return which lines hold fewer than `enough` results. (s,) int64

    rows  (q, w) int64; -1 pads at the end of a line
    """
    return np.flatnonzero((rows[:, :enough] < 0).any(axis=1))


def as_mask(allowed: Any, n: int) -> np.ndarray:
    """Return which of the rows 0..n-1 are allowed. (n,) bool

    allowed  (m,) bool, m >= n

    Raises VectorIndexError on anything else.
    """
    mask = np.asarray(allowed)
    if mask.dtype != bool or mask.ndim != 1:
        raise VectorIndexError(
            f"allowed must be bool of shape (n,), one for each row number, got {mask.dtype} of "
            f"shape {mask.shape}."
        )
    if len(mask) < n:
        raise VectorIndexError(
            f"allowed says nothing of rows {len(mask)} to {n - 1}: it must be at least {n} long."
        )
    return mask[:n]


def as_bias(bias: Any, n: int) -> np.ndarray:
    """Return the bias by row number, (m,) float32, m >= n. Raises VectorIndexError on anything else."""
    values = np.asarray(bias)
    if values.dtype != np.float32 or values.ndim != 1 or len(values) < n:
        raise VectorIndexError(
            f"bias must be float32 of shape (n,), n at least {n}, got {values.dtype} of shape {values.shape}."
        )
    values = np.ascontiguousarray(values)
    if not np.isfinite(values).all():
        raise VectorIndexError(f"bias of row {int(np.argmin(np.isfinite(values)))} is not finite.")
    return values


def checked_count(value: Any, name: str, error: type[VectorIndexError] = VectorIndexError) -> int:
    """Return `value` as an int of at least 1, or raise `error` calling it by `name`."""
    try:
        count = operator.index(value)
    except TypeError:
        count = 0
    if isinstance(value, (bool, np.bool_)) or count < 1:
        raise error(f"{name} must be a whole number of at least 1, got {value!r}.")
    return count
