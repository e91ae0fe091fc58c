from __future__ import annotations

import numpy as np
import pytest

from indexes.errors import VectorError, VectorIndexError
from indexes.near import near_pairs

# Cosines: 0-1 0.6, 0-2 1, 0-3 0.96, 1-2 0.6, 1-3 0.8, 2-3 0.96, and -1 with row 4 for rows 0 and 2
ROWS = np.array([[1, 0], [0.6, 0.8], [1, 0], [0.96, 0.28], [-1, 0]], dtype=np.float32)


def found(vectors: np.ndarray, threshold: float, **how: int) -> dict[tuple[int, int], float]:
    return {
        (int(low), int(high)): float(score)
        for scores, lower, higher in near_pairs(vectors, threshold, **how)
        for score, low, high in zip(scores, lower, higher)
    }


@pytest.mark.parametrize("block_rows", [1, 2, 3, 100])
def test_by_hand(block_rows: int) -> None:
    pairs = found(ROWS, 0.9, block_rows=block_rows)
    assert pairs == pytest.approx({(0, 2): 1, (0, 3): 0.96, (2, 3): 0.96})
    assert found(ROWS, 0.7, block_rows=block_rows).keys() == {(0, 2), (0, 3), (2, 3), (1, 3)}


def test_equal_rows_reach_a_threshold_of_one() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = found(np.concatenate([rows, rows]), 1.0, block_rows=30)
    assert pairs.keys() == {(row, row + 50) for row in range(50)}
    assert max(pairs.values()) <= 1


def test_blocks_agree_with_the_whole_product(corpus: np.ndarray) -> None:
    products = corpus.astype(np.float64) @ corpus.T.astype(np.float64)
    threshold = float(np.quantile(products[np.triu_indices(len(corpus), 1)], 0.99)) + 1e-5
    lower, higher = np.nonzero(np.triu(products >= threshold, 1))
    assert len(lower) > 100
    pairs = found(corpus, threshold, block_rows=70)
    assert pairs.keys() == set(zip(lower.tolist(), higher.tolist()))
    np.testing.assert_allclose(
        [pairs[pair] for pair in zip(lower.tolist(), higher.tolist())], products[lower, higher], atol=1e-5
    )


def test_stored_halves_are_brought_to_unit_length() -> None:
    rows = np.random.default_rng(1).normal(size=(40, 96))
    halves = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    assert found(np.concatenate([halves, halves[:1]]), 0.9999).keys() == {(0, 40)}


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(VectorIndexError, match="above 0 and at most 1"):
        found(ROWS, threshold)


def test_rows_that_are_not_of_unit_length_are_refused() -> None:
    with pytest.raises(VectorError, match="row 1 has norm 2"):
        found(np.array([[1, 0], [2, 0]], np.float32), 0.9)
