"""The last word on scores: float64 cosines of queries and the stored float16 rows."""

from __future__ import annotations

import faiss
import numpy as np

from indexes.candidates import Candidates, Rows
from indexes.matches import Matches, ranked_less_bias
from indexes.vectors import UNIT_TOLERANCE, as_unit_rows

_PAIRS_AT_ONCE = 4096


def unit_doubles(rows: np.ndarray) -> np.ndarray:
    """Return rows (m, d) in float64, of unit length in that precision."""
    exact = rows.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    return exact


def best_of(
    rows: Rows, near: Candidates, possible: np.ndarray, queries: np.ndarray, k: int
) -> Matches:
    """Return the k best of the possible candidates by their true scores, rounded to float32.

    Where rows have a bias it counts for the order, and the scores returned are without it.

    possible  (q, w) bool: the candidates to look at; w >= k
    queries   (q, d) float64, unit rows

    Raises VectorError on a row that is not of unit length.
    """
    scores = np.full(near.scores.shape, -np.inf, dtype=np.float32)
    lines, columns = np.nonzero(possible)  # (m,)
    scores[lines, columns] = _cosines(rows, queries, lines, near.rows[lines, columns])
    return ranked_less_bias(scores, np.where(possible, near.rows, -1), rows.bias, k)


def _cosines(rows: Rows, queries: np.ndarray, at: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return the cosine of row numbers[i] and query at[i]. (m,) float64"""
    scores = np.empty(len(numbers))
    # By row number, as the rows may be more than memory holds, and lie on a disk.
    order = np.argsort(numbers, kind="stable")
    for start in range(0, len(order), _PAIRS_AT_ONCE):
        pairs = order[start : start + _PAIRS_AT_ONCE]
        stored = _widened(rows.gather(numbers[pairs]))  # (p, d)
        exact = stored.astype(np.float64)
        lengths = np.sqrt(np.einsum("pd,pd->p", exact, exact))  # (p,)
        for wrong in np.flatnonzero(~(np.abs(lengths - 1) <= UNIT_TOLERANCE))[:1]:
            as_unit_rows(stored[wrong, None], first_row=int(numbers[pairs[wrong]]))  # raises
        scores[pairs] = np.einsum("pd,pd->p", exact, queries[at[pairs]]) / lengths
    return scores


def _widened(halves: np.ndarray) -> np.ndarray:
    """Return float16 rows (m, d) in float32. FAISS does it many times as fast as numpy."""
    codec = faiss.ScalarQuantizer(halves.shape[1], faiss.ScalarQuantizer.QT_fp16)
    return codec.decode(np.ascontiguousarray(halves).view(np.uint8))
