"""All pairs of vectors that are alike: what `search` would find with a threshold in place of k."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from indexes.errors import VectorIndexError
from indexes.vectors import shape_of, unit_blocks

_BLOCK_ROWS = 4096  # a block against a block: 64 MiB of scores


def near_pairs(
    vectors: Any, threshold: float, *, block_rows: int = _BLOCK_ROWS
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the pairs of rows whose score reaches the threshold, block by block.

    vectors     (n, d) float32 or float16 unit rows; an array, a memory map, or anything with a
                shape that can be sliced by row range
    threshold   score in (0, 1]
    block_rows  rows compared at a time; two blocks and their scores are in memory

    Yields scores (p,) float32 and rows, two int64 (p,): the lower row of each pair and the higher.
    Every pair comes once, so half of all n x n scores are computed and none is kept. Exact.
    Raises VectorError on unfit vectors, VectorIndexError on a threshold out of range.
    """
    if not 0 < threshold <= 1:
        raise VectorIndexError(f"The threshold is {threshold}; a score to reach is above 0 and at most 1.")
    n, _ = shape_of(vectors)
    for first_row, block in unit_blocks(vectors, block_rows):
        yield from _pairs(block, block, first_row, first_row, threshold)
        for start, other in _blocks_behind(vectors, first_row + len(block), n, block_rows):
            yield from _pairs(block, other, first_row, start, threshold)


def _blocks_behind(vectors: Any, start: int, n: int, block_rows: int) -> Iterator[tuple[int, np.ndarray]]:
    for first in range(start, n, block_rows):
        for _, block in unit_blocks(vectors[first : first + block_rows], block_rows):
            yield first, block


def _pairs(
    block: np.ndarray, other: np.ndarray, first_row: int, other_row: int, threshold: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    scores = block @ other.T  # (b, c)
    # A float32 product of a row with its copy may fall short of 1 by its last bits.
    lower, higher = np.nonzero(scores >= threshold - 1e-6)
    if first_row == other_row:
        kept = lower < higher
        lower, higher = lower[kept], higher[kept]
    if len(lower):
        yield np.minimum(scores[lower, higher], 1), lower + first_row, higher + other_row
