"""Exact search by brute force: the oracle that every index is measured against."""

from __future__ import annotations

from typing import Any

import numpy as np

from indexes.matches import Matches, checked_count, no_matches, ranked
from indexes.vectors import as_queries, shape_of, unit_block, unit_blocks

_SCORES_IN_MEMORY = 2**22  # a block of queries times a block of rows: 16 MiB, and some copies
_BLOCK_ROWS = 8192  # more would leave too few queries for each product to run at full speed
_GROUPS_AT_LEAST = 256  # fewer make short loops
_SPARE = 8  # rows beside k whose scores are computed anew, as the last bit of a product is chance
_PAIRS_AT_ONCE = 4096


def exact_search(vectors: Any, queries: Any, k: int, *, block_rows: int = _BLOCK_ROWS) -> Matches:
    """Return the k highest-scoring rows for each query, comparing with every vector.

    vectors     (n, d) float32 or float16 unit rows; an array, a memory map, or anything with a
                shape that can be sliced by row range
    queries     (q, d) float32, unit rows
    k           results per query; above n the lists are padded
    block_rows  rows of `vectors` in memory at a time

    Returns Matches: scores (q, k) descending, rows (q, k), equal scores by lower row; -1 and
    -inf pad short lists. Scores are rounded from float64, so that equal vectors score the same
    wherever they lie; only where more than 8 score like the k-th may another of them take its place.
    Raises DimensionError if queries and vectors disagree on d, VectorError on unfit vectors,
    VectorIndexError on k < 1.
    """
    _, dim = shape_of(vectors)
    queries = as_queries(queries, dim)  # (q, d)
    k = checked_count(k, "k")
    block_rows = checked_count(block_rows, "block_rows")
    best = no_matches(len(queries), k + _SPARE)
    for first_row, block in unit_blocks(vectors, block_rows):  # block (b, d)
        step = max(1, _SCORES_IN_MEMORY // len(block))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            scores = queries[part] @ block.T  # (p, b)
            np.clip(scores, -1, 1, out=scores)
            best.scores[part], best.rows[part] = _merged(
                best.scores[part], best.rows[part], scores, first_row
            )
    scores = _precise(vectors, queries, best.rows, block_rows)
    found = ranked(scores, best.rows, k + _SPARE)
    return Matches(found.scores[:, :k], found.rows[:, :k])


def _precise(vectors: Any, queries: np.ndarray, rows: np.ndarray, block_rows: int) -> np.ndarray:
    """Return the score of each query's rows (q, w), computed in float64. (q, w) float32"""
    scores = np.full(rows.shape, -np.inf, np.float32)
    lines, columns = np.nonzero(rows >= 0)  # (m,)
    numbers = rows[lines, columns]
    order = np.argsort(numbers, kind="stable")
    starts = range(0, shape_of(vectors)[0] + block_rows, block_rows)
    bounds = np.searchsorted(numbers[order], starts)
    for start, first, last in zip(starts, bounds, bounds[1:]):
        block = unit_block(vectors, start, start + block_rows) if first < last else None
        for begin in range(first, last, _PAIRS_AT_ONCE):
            pairs = order[begin : min(begin + _PAIRS_AT_ONCE, last)]
            exact = np.einsum(
                "md,md->m", block[numbers[pairs] - start], queries[lines[pairs]], dtype=np.float64
            )
            scores[lines[pairs], columns[pairs]] = np.clip(exact, -1, 1)
    return scores


def _merged(
    best_scores: np.ndarray, best_rows: np.ndarray, scores: np.ndarray, first_row: int
) -> Matches:
    """Return the best of what was found and of a new block: scores, rows (p, k).

    best_scores, best_rows  (p, k), of lower rows than the block's, or pads
    scores                  (p, b) of rows first_row, first_row + 1, ...
    """
    p, k = best_scores.shape
    enough = np.maximum(best_scores[:, -1:], _reached_k_times(scores, k))  # (p, 1)
    lines, columns = np.divmod(np.flatnonzero(scores >= enough), scores.shape[1])  # (c,) each
    counts = np.bincount(lines, minlength=p)  # (p,), seldom many more than k
    places = np.arange(len(lines)) - np.repeat(counts.cumsum() - counts, counts)  # (c,)
    new = no_matches(p, int(counts.max()))
    new.scores[lines, places] = scores[lines, columns]
    new.rows[lines, places] = first_row + columns
    return _top(
        np.concatenate([best_scores, new.scores], axis=1),
        np.concatenate([best_rows, new.rows], axis=1),
        k,
    )


def _reached_k_times(scores: np.ndarray, k: int) -> np.ndarray:
    """Return for each line a score that at least k of its columns reach, or -inf. (p, 1)

    Found from the maxima of groups of columns: the k-th best maximum is reached in k groups. It
    is close to the k-th best score, at a fraction of the price of looking for that one.
    """
    p, b = scores.shape
    groups = max(4 * k, _GROUPS_AT_LEAST)
    size = b // groups
    if size < 2:
        return np.full((p, 1), -np.inf, dtype=np.float32)
    maxima = scores[:, : size * groups].reshape(p, size, groups).max(axis=1)  # (p, groups)
    return np.partition(maxima, -k, axis=1)[:, -k, None]


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
