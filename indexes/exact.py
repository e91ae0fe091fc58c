"""Exact search by brute force: the oracle that every index is measured against."""

from __future__ import annotations

from typing import Any

import numpy as np

from indexes.matches import Matches, checked_count, no_matches
from indexes.vectors import BLOCK_ROWS, as_queries, shape_of, unit_blocks

_SCORES_IN_MEMORY = 2**22  # a block of queries times a block of rows: 16 MiB, and some copies


def exact_search(vectors: Any, queries: Any, k: int, *, block_rows: int = BLOCK_ROWS) -> Matches:
    """Return the k highest-scoring rows for each query, comparing with every vector.

    vectors     (n, d) float32 or float16 unit rows; an array, a memory map, or anything with a
                shape that can be sliced by row range
    queries     (q, d) float32, unit rows
    k           results per query; above n the lists are padded
    block_rows  rows of `vectors` in memory at a time

    Returns Matches: scores (q, k) descending, rows (q, k), equal scores by lower row; -1 and
    -inf pad short lists. Scores are float32 products, so two equal vectors in different blocks
    may differ in the last bit.
    Raises DimensionError if queries and vectors disagree on d, VectorError on unfit vectors,
    VectorIndexError on k < 1.
    """
    _, dim = shape_of(vectors)
    queries = as_queries(queries, dim)  # (q, d)
    k = checked_count(k, "k")
    block_rows = checked_count(block_rows, "block_rows")
    best = no_matches(len(queries), k)
    step = max(1, _SCORES_IN_MEMORY // (block_rows + k))
    for first_row, block in unit_blocks(vectors, block_rows):  # block (b, d)
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            scores = np.clip(queries[part] @ block.T, -1, 1)  # (p, b)
            rows = np.arange(first_row, first_row + len(block))  # (b,)
            merged = _top(
                np.concatenate([best.scores[part], scores], axis=1),
                np.concatenate([best.rows[part], np.broadcast_to(rows, scores.shape)], axis=1),
                k,
            )
            best.scores[part], best.rows[part] = merged
    return best


def _top(scores: np.ndarray, rows: np.ndarray, k: int) -> Matches:
    """Return the k best columns of each line: scores, rows (p, k).

    scores  (p, m), m >= k; columns of equal score must come by ascending row, or be pads
    rows    (p, m)
    """
    kth = np.partition(scores, -k, axis=1)[:, -k, None]  # (p, 1), the lowest score that gets in
    above = scores > kth
    tied = scores == kth
    room = k - above.sum(axis=1, keepdims=True)  # (p, 1), places left to the tied
    kept = above | (tied & (tied.cumsum(axis=1) <= room))  # (p, m), k per line
    columns = np.nonzero(kept)[1].reshape(len(scores), k)
    scores = np.take_along_axis(scores, columns, axis=1)  # (p, k)
    order = np.argsort(-scores, axis=1, kind="stable")
    columns = np.take_along_axis(columns, order, axis=1)
    return Matches(
        np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, columns, axis=1)
    )
