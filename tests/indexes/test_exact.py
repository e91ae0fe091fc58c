from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexes import exact
from indexes.errors import DimensionError, VectorError, VectorIndexError
from indexes.exact import exact_search

# Products with (1, 0): 0.6, 1, 0.6, -1, 0.8, 0.6
ROWS = np.array(
    [[0.6, 0.8], [1, 0], [0.6, -0.8], [-1, 0], [0.8, 0.6], [0.6, 0.8]], dtype=np.float32
)
EAST = np.array([[1, 0]], dtype=np.float32)
NORTH = np.array([[0, 1]], dtype=np.float32)


@pytest.mark.parametrize("block_rows", [1, 2, 4, 100])
def test_by_hand_with_ties_by_lower_row(block_rows: int) -> None:
    matches = exact_search(ROWS, EAST, 6, block_rows=block_rows)
    assert matches.rows.tolist() == [[1, 4, 0, 2, 5, 3]]
    expected = np.array([[1, 0.8, 0.6, 0.6, 0.6, -1]], dtype=np.float32)
    np.testing.assert_array_equal(matches.scores, expected)


@pytest.mark.parametrize("block_rows", [1, 2, 4, 100])
@pytest.mark.parametrize(("k", "rows"), [(1, [1]), (3, [1, 4, 0]), (4, [1, 4, 0, 2])])
def test_a_tie_at_the_last_place_goes_to_the_lower_row(
    k: int, rows: list[int], block_rows: int
) -> None:
    assert exact_search(ROWS, EAST, k, block_rows=block_rows).rows.tolist() == [rows]


@pytest.mark.parametrize("block_rows", [1, 4, 100])
def test_k_above_n_pads(block_rows: int) -> None:
    scores, rows = exact_search(ROWS[:2], np.concatenate([EAST, NORTH]), 4, block_rows=block_rows)
    assert rows.tolist() == [[1, 0, -1, -1], [0, 1, -1, -1]]
    expected = [[1, 0.6, -np.inf, -np.inf], [0.8, 0, -np.inf, -np.inf]]
    np.testing.assert_array_equal(scores, np.array(expected, dtype=np.float32))
    assert scores.dtype == np.float32 and rows.dtype == np.int64


def test_no_vectors_gives_all_pads() -> None:
    scores, rows = exact_search(ROWS[:0], EAST, 2)
    assert rows.tolist() == [[-1, -1]] and scores.tolist() == [[-np.inf, -np.inf]]


def test_no_queries_gives_no_rows() -> None:
    assert exact_search(ROWS, EAST[:0], 2).rows.shape == (0, 2)


def test_blocks_of_queries_and_rows_agree_with_a_full_sort(
    corpus: np.ndarray, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "_SCORES_IN_MEMORY", 300)  # a few queries at a time
    scores, rows = exact_search(corpus, queries, 7, block_rows=70)
    products = queries.astype(np.float64) @ corpus.T.astype(np.float64)
    expected = np.argsort(-products, axis=1, kind="stable")[:, :7]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(products, expected, 1), atol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 30])
@pytest.mark.parametrize("order", ["mixed", "worst first", "best first", "all the same"])
def test_ties_across_groups_and_blocks_go_to_the_lower_row(
    order: str, k: int, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors on a circle with 16 directions, so that every place has ties, and exact scores."""
    monkeypatch.setattr(exact, "_GROUPS_AT_LEAST", 4)  # groups of many columns, even here
    steps = np.random.default_rng(3).integers(0, 16, 500)
    if order == "all the same":
        steps[:] = 5
    elif order != "mixed":
        steps = np.sort(np.minimum(steps, 16 - steps))[:: 1 if order == "best first" else -1]
    angles = steps * (np.pi / 8)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    for block_rows in (37, 128, 500):
        scores, rows = exact_search(circle, EAST, k, block_rows=block_rows)
        expected = np.argsort(-circle[:, 0], kind="stable")[:k]
        np.testing.assert_array_equal(rows, [expected])
        np.testing.assert_array_equal(scores, [circle[expected, 0]])


def test_scores_stay_within_minus_one_and_one(corpus: np.ndarray) -> None:
    scores, rows = exact_search(corpus, corpus, 1)
    assert scores.max() <= 1
    np.testing.assert_array_equal(rows[:, 0], np.arange(len(corpus)))


def test_a_float16_memory_map_is_searched_at_unit_length(
    corpus: np.ndarray, queries: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "v.npy", corpus.astype(np.float16))
    stored = np.load(tmp_path / "v.npy", mmap_mode="r")
    scores, rows = exact_search(stored, queries, 5, block_rows=100)
    widened = stored.astype(np.float64)
    widened /= np.linalg.norm(widened, axis=1, keepdims=True)
    products = queries.astype(np.float64) @ widened.T
    expected = np.argsort(-products, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(products, expected, 1), atol=1e-6)


@pytest.mark.parametrize("k", [0, -1, 2.0])
def test_k_below_one_is_refused(k: Any) -> None:
    with pytest.raises(VectorIndexError, match="k must be a whole number of at least 1"):
        exact_search(ROWS, EAST, k)


def test_a_block_below_one_row_is_refused() -> None:
    with pytest.raises(VectorIndexError, match="block_rows must be"):
        exact_search(ROWS, EAST, 1, block_rows=0)


def test_unfit_input_is_refused() -> None:
    with pytest.raises(DimensionError, match="queries are 3-d, the index is 2-d"):
        exact_search(ROWS, np.eye(3, dtype=np.float32), 1)
    with pytest.raises(VectorError, match="vectors must be float32, got float64"):
        exact_search(ROWS.astype(np.float64), EAST, 1)
    with pytest.raises(VectorError, match="vectors row 3 has norm 2"):
        exact_search(ROWS * np.array([[1], [1], [1], [2], [1], [1]], np.float32), EAST, 1)
