"""Recall of an index against exact search, which forgives no loss but the order of equal scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from indexes.errors import VectorIndexError
from indexes.matches import Matches, checked_count
from indexes.vectors import as_queries, shape_of, unit_blocks

_SAME_SCORE = 1e-6  # float32 products of equal vectors differ by less
_PAIRS_AT_ONCE = 4096
_95_PERCENT = 1.959964  # standard errors to either side


@dataclass(frozen=True)
class RecallEstimate:
    """A mean recall over queries, and the low and high ends of its 95 % interval."""

    value: float
    low: float
    high: float
    queries: int


def recall_estimate(per_query: np.ndarray, *, z: float = _95_PERCENT) -> RecallEstimate:
    """Return the mean of recalls (q,), q >= 1, with Wilson's score interval of z standard errors.

        (p + z^2/2m -+ z sqrt(p (1 - p)/m + z^2/4m^2)) / (1 + z^2/m),  m = q p (1 - p) / variance

    m is how many yes-or-no answers tell as much as q recalls, which vary less (Wilson 1927; Kish
    1965 on effective sample sizes). Where all recalls agree, m is q.
    """
    q, p = len(per_query), float(np.mean(per_query))
    variance = float(np.var(per_query))
    m = q * p * (1 - p) / variance if variance > 1e-12 else q
    middle = p + z**2 / (2 * m)
    reach = z * np.sqrt(max(p * (1 - p), 0.0) / m + z**2 / (4 * m**2))
    low, high = ((middle + side) / (1 + z**2 / m) for side in (-reach, reach))
    return RecallEstimate(p, max(float(low), 0.0), min(float(high), 1.0), q)


def ann_recall_at_k(
    rows: np.ndarray,
    exact: Matches,
    k: int,
    *,
    vectors: Any = None,
    queries: Any = None,
    ties: bool = False,
) -> np.ndarray:
    """Return for each query the share of exact search's first k rows that were found. (q,) float64

    rows     (q, >= k) int64, what the index found, best first; -1 pads count for nothing
    exact    exact_search's Matches for the same queries, at least k columns
    vectors  (n, d) what `exact` was searched in, rows numbered 0..n-1; with `queries` (q, d), a
             row that is not among exact's first k may stand in for one there that scores the
             same as the k-th, to 1e-6: which of equal vectors comes first is a matter of taste.
             It makes up for none of those that score higher.
    ties     the same without vectors, of rows that `exact` has in further columns

        |found within exact's first k, or standing in| / min(k, n)
        1.0 where there is nothing to find

    Raises VectorIndexError on fewer than k columns, lines that do not pair up, or rows beyond n.
    """
    if (vectors is None) != (queries is None):
        raise VectorIndexError("To find equal scores, pass vectors and queries, not one of them.")
    rows = np.asarray(rows)
    check_columns(rows, "rows", len(exact.rows), k)
    check_columns(exact.rows, "exact", len(rows), k)
    found = _without_repeats(rows[:, :k])  # (q, k)
    true_rows, true_scores = exact.rows[:, :k], exact.scores[:, :k]
    real = true_rows >= 0  # (q, k)
    expected = real.sum(axis=1)  # (q,)
    hits = _is_in(found, true_rows)  # (q, k)
    if not real.any() or (vectors is None and not ties):
        return _share(hits.sum(axis=1), expected)
    last = np.where(real, true_scores, np.inf).min(axis=1, keepdims=True)  # (q, 1), the k-th score
    above = np.where(real & (true_scores > last + _SAME_SCORE), true_rows, -1)  # (q, k)
    hits_above = _is_in(found, above)
    tied = hits & ~hits_above
    if ties:
        same = np.where(exact.scores >= last - _SAME_SCORE, exact.rows, -1)  # (q, >= k)
        tied |= _is_in(found, same) & ~hits_above
    if vectors is not None:
        n, dim = shape_of(vectors)
        queries = as_queries(queries, dim)
        check_columns(rows, "rows", len(queries), k)
        _check_rows(found, n)
        missed = np.nonzero((found >= 0) & ~hits)  # lines and columns, (m,) each
        scores = _scores_of(vectors, queries, missed[0], found[missed])  # (m,)
        tied[missed] = scores >= last[missed[0], 0] - _SAME_SCORE
    places = expected - (above >= 0).sum(axis=1)  # (q,), how many of the tied exact search has
    return _share(hits_above.sum(axis=1) + np.minimum(tied.sum(axis=1), places), expected)


def _check_rows(rows: np.ndarray, n: int) -> None:
    """Raise VectorIndexError on a row (q, k) that none of n vectors has."""
    unknown = rows >= n
    if unknown.any():
        raise VectorIndexError(
            f"Row {rows[unknown][0]} is none of the {n} vectors. Number rows by the place of "
            "their vector."
        )


def check_columns(rows: np.ndarray, name: str, q: int, k: int) -> None:
    """Raise VectorIndexError unless rows is (q, >= k)."""
    k = checked_count(k, "k")
    if rows.ndim != 2 or len(rows) != q or rows.shape[1] < k:
        raise VectorIndexError(
            f"{name} must hold one line of at least k={k} rows for each of {q} queries, got shape "
            f"{rows.shape}. Search for at least {k}."
        )


def _without_repeats(rows: np.ndarray) -> np.ndarray:
    """Return rows (q, k) with every row but the first of its kind in a line made a pad."""
    order = np.argsort(rows, axis=1, kind="stable")
    ascending = np.take_along_axis(rows, order, axis=1)
    repeated = np.zeros(rows.shape, dtype=bool)
    np.put_along_axis(repeated, order[:, 1:], ascending[:, 1:] == ascending[:, :-1], axis=1)
    return np.where(repeated, -1, rows)


def _is_in(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which rows (q, k) stand in the same line of others (q, m); pads never do. (q, k)"""
    span = int(max(rows.max(initial=0), others.max(initial=0))) + 2
    lines = np.arange(len(rows))[:, None] * span  # so that rows of two lines never meet
    return np.isin(rows + lines, (others + lines)[others >= 0]) & (rows >= 0)


def _share(hits: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.where(expected > 0, hits / np.maximum(expected, 1), 1.0)


def _scores_of(vectors: Any, queries: np.ndarray, at: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the score of vector rows[i] for query at[i]. (m,) float32

    The vectors are read in blocks, as they may be larger than memory.
    """
    scores = np.empty(len(rows), dtype=np.float32)
    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    for first_row, block in unit_blocks(vectors):
        first, last = np.searchsorted(ascending, [first_row, first_row + len(block)])
        for start in range(first, last, _PAIRS_AT_ONCE):
            pairs = order[start : min(start + _PAIRS_AT_ONCE, last)]
            found = block[rows[pairs] - first_row]  # (m, d)
            scores[pairs] = np.einsum("md,md->m", found, queries[at[pairs]])
    return scores
