"""The last word on scores: float64 cosines of queries and the stored float16 rows."""

from __future__ import annotations

import numpy as np

from indexes.matches import Matches, ranked_less_bias
from indexes.rows import Rows
from indexes.threads import in_threads, threads
from indexes.vectors import UNIT_TOLERANCE, as_unit_rows

_PAIRS_AT_ONCE = 128  # in float64 they stay in the processor's cache


def unit_doubles(rows: np.ndarray) -> np.ndarray:
    """Return rows (m, d) in float64, of unit length in that precision."""
    exact = rows.astype(np.float64)
    exact /= np.sqrt(np.einsum("md,md->m", exact, exact))[:, None]  # norm() takes nine times as long
    return exact


def best_of(
    rows: Rows, near: np.ndarray, possible: np.ndarray, queries: np.ndarray, k: int
) -> Matches:
    """Return the k best of the possible candidates by their true scores, rounded to float32.

    Where rows have a bias it counts for the order, and the scores returned are without it.

    near      (q, w) int64 row numbers, w >= k
    possible  (q, w) bool: those to look at
    queries   (q, d) float64, unit rows

    Raises VectorError on a row that is not of unit length.
    """
    # Candidates come by their rough scores: the last columns are of no query's best.
    width = max(k, int(np.flatnonzero(possible.any(axis=0)).max(initial=-1)) + 1)
    possible = possible[:, :width]
    numbers = np.where(possible, near[:, :width], -1)
    scores = np.full(numbers.shape, -np.inf, dtype=np.float32)
    lines, columns = np.nonzero(possible)  # (m,)
    scores[lines, columns] = _cosines(rows, queries, lines, numbers[lines, columns])
    return ranked_less_bias(scores, numbers, rows.bias, k)


def best_among(rows: Rows, numbers: np.ndarray, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best of these rows for one query as `best_of` would: scores (k,), rows (k,).

    numbers  (m,) int64, m >= k
    query    (d,) float64, a unit row
    """
    scores = _cosines(rows, query[None], np.zeros(len(numbers), np.int64), numbers).astype(np.float32)
    keys = scores if rows.bias is None else scores - rows.bias[numbers]
    order = np.lexsort((numbers, -keys))[:k]  # last key first
    return scores[order], numbers[order]


def _cosines(rows: Rows, queries: np.ndarray, at: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return the cosine of row numbers[i] and query at[i]. (m,) float64"""
    scores = np.empty(len(numbers))

    def score(part: np.ndarray) -> None:
        for start in range(0, len(part), _PAIRS_AT_ONCE):
            pairs = part[start : start + _PAIRS_AT_ONCE]
            stored = rows.gather(numbers[pairs]).astype(np.float64)  # (p, d)
            lengths = np.sqrt(np.einsum("pd,pd->p", stored, stored))  # (p,)
            for wrong in np.flatnonzero(~(np.abs(lengths - 1) <= UNIT_TOLERANCE))[:1]:
                as_unit_rows(stored[wrong, None].astype(np.float32), first_row=numbers[pairs[wrong]])
            scores[pairs] = np.einsum("pd,pd->p", stored, queries[at[pairs]]) / lengths

    # By row number, as the rows may be more than memory holds, and lie on a disk.
    order = np.argsort(numbers, kind="stable")
    share = max(_PAIRS_AT_ONCE, -(-len(order) // threads()))
    in_threads(score, [order[start : start + share] for start in range(0, len(order), share)])
    return scores
