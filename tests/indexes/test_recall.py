from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from indexes import recall as recall_module
from indexes.errors import DimensionError, VectorIndexError
from indexes.exact import exact_search
from indexes.matches import Matches
from indexes.recall import ann_recall_at_k

# Products with (1, 0): 0.6, 1, 0.6, -1, 0.8, 0.6; ranking 1 4 0 2 5 3, where 0, 2 and 5 tie
ROWS = np.array(
    [[0.6, 0.8], [1, 0], [0.6, -0.8], [-1, 0], [0.8, 0.6], [0.6, 0.8]], dtype=np.float32
)
EAST = np.array([[1, 0]], dtype=np.float32)


def recall(found: list[int], k: int, vectors: np.ndarray | None = ROWS) -> float:
    exact = exact_search(ROWS, EAST, 6)
    queries = None if vectors is None else EAST
    share = ann_recall_at_k(np.array([found]), exact, k, vectors=vectors, queries=queries)
    assert share.shape == (1,) and share.dtype == np.float64
    return float(share[0])


@pytest.mark.parametrize("vectors", [None, ROWS], ids=["overlap", "ties"])
@pytest.mark.parametrize(
    ("found", "k", "share"),
    [
        ([1, 4], 2, 1),
        ([4, 1], 2, 1),  # the order within the first k is not at issue
        ([1, 0], 2, 0.5),
        ([3, 5], 2, 0),
        ([0, 1, 4], 2, 0.5),  # what comes after the k-th place is not looked at
        ([1, -1], 2, 0.5),
        ([-1, -1], 2, 0),
        ([1, 1], 2, 0.5),  # once is enough
        ([1, 4, 0, 3], 4, 0.75),
    ],
)
def test_by_hand(found: list[int], k: int, share: float, vectors: np.ndarray | None) -> None:
    assert recall(found, k, vectors) == share


@pytest.mark.parametrize(
    ("found", "k", "overlap", "with_ties"),
    [
        ([1, 4, 5], 3, 2 / 3, 1),  # 5 stands in for 0
        ([1, 4, 2, 5], 4, 0.75, 1),  # for exact's 0 and 2: one itself, one stand-in
        ([1, 5, 2], 3, 1 / 3, 2 / 3),  # two stand-ins for one place; 4 scores more and is missed
        ([5, 2, 0], 3, 1 / 3, 1 / 3),
        ([1, 5, 5], 3, 1 / 3, 2 / 3),
        ([1, 4, 3], 3, 2 / 3, 2 / 3),
        ([4, 5], 2, 0.5, 0.5),  # the second place is 4's own
    ],
)
def test_equal_scores_stand_in_for_the_last_places(
    found: list[int], k: int, overlap: float, with_ties: float
) -> None:
    assert recall(found, k, None) == pytest.approx(overlap)
    assert recall(found, k) == pytest.approx(with_ties)


def test_fewer_vectors_than_k_divide_by_their_number() -> None:
    exact = exact_search(ROWS[:2], EAST, 4)
    assert exact.rows.tolist() == [[1, 0, -1, -1]]
    for given in ({}, {"vectors": ROWS[:2], "queries": EAST}):
        for found, share in (([1, 0, -1, -1], 1), ([0, -1, -1, -1], 0.5), ([-1] * 4, 0)):
            assert ann_recall_at_k(np.array([found]), exact, 4, **given).tolist() == [share]


def test_nothing_to_find_is_all_found() -> None:
    exact = exact_search(ROWS[:0], EAST, 2)
    for given in ({}, {"vectors": ROWS[:0], "queries": EAST}):
        assert ann_recall_at_k(np.array([[-1, -1]]), exact, 2, **given).tolist() == [1]


def test_no_queries_give_no_recalls() -> None:
    exact = exact_search(ROWS, EAST[:0], 2)
    for given in ({}, {"vectors": ROWS, "queries": EAST[:0]}):
        assert ann_recall_at_k(np.zeros((0, 2), np.int64), exact, 2, **given).tolist() == []


def test_each_query_has_its_own() -> None:
    queries = np.array([[1, 0], [0, 1]], dtype=np.float32)
    exact = exact_search(ROWS, queries, 2)
    assert exact.rows.tolist() == [[1, 4], [0, 5]]
    found = np.array([[4, 0], [5, 0]])
    assert ann_recall_at_k(found, exact, 2).tolist() == [0.5, 1]
    assert ann_recall_at_k(found, exact, 2, vectors=ROWS, queries=queries).tolist() == [0.5, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_against_sets_with_duplicated_vectors(
    dtype: Any, unit_vectors: Any, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows r and r + 150 are the same vector, so each may stand in for the other at the end."""
    monkeypatch.setattr(recall_module, "_PAIRS_AT_ONCE", 3)
    vectors = np.tile(unit_vectors(150, seed=7).astype(dtype), (2, 1))  # (300, 32)
    exact = exact_search(vectors, queries, 5)
    assert (exact.rows[:, 4] < 150).all()  # the fifth place holds the first of two
    twin = exact.rows.copy()
    twin[:, 4] += 150
    random = np.random.default_rng(0).permuted(np.tile(np.arange(300), (20, 1)), axis=1)[:, :5]
    for found in (twin, random):
        overlap = [
            len(set(a) & set(b)) / 5
            for a, b in zip(found.tolist(), exact.rows.tolist(), strict=True)
        ]
        np.testing.assert_allclose(ann_recall_at_k(found, exact, 5), overlap)
    shares = ann_recall_at_k(twin, exact, 5, vectors=vectors, queries=queries)
    np.testing.assert_array_equal(shares, np.ones(20))


@pytest.mark.parametrize(
    ("found", "k", "message"),
    [
        (np.zeros((1, 2), np.int64), 3, r"rows must hold .*k=3 .* got shape \(1, 2\)"),
        (np.zeros((2, 4), np.int64), 2, r"rows must hold .* each of 1 queries, got shape \(2, 4\)"),
        (np.zeros((1, 9), np.int64), 7, r"exact must hold .*k=7 .* got shape \(1, 6\)"),
        (np.zeros(3, np.int64), 2, r"got shape \(3,\)"),
        (np.zeros((1, 2), np.int64), 0, "k must be a whole number of at least 1"),
    ],
)
def test_lines_that_do_not_fit_are_refused(found: np.ndarray, k: int, message: str) -> None:
    with pytest.raises(VectorIndexError, match=message):
        ann_recall_at_k(found, exact_search(ROWS, EAST, 6), k)


def test_vectors_and_queries_that_do_not_fit_are_refused() -> None:
    exact, found = exact_search(ROWS, EAST, 2), np.array([[1, 4]])
    with pytest.raises(VectorIndexError, match="pass vectors and queries"):
        ann_recall_at_k(found, exact, 2, vectors=ROWS)
    with pytest.raises(VectorIndexError, match="Row 6 is none of the 6 vectors"):
        ann_recall_at_k(np.array([[1, 6]]), exact, 2, vectors=ROWS, queries=EAST)
    with pytest.raises(VectorIndexError, match="each of 2 queries"):
        ann_recall_at_k(found, exact, 2, vectors=ROWS, queries=np.repeat(EAST, 2, axis=0))
    with pytest.raises(DimensionError):
        ann_recall_at_k(found, exact, 2, vectors=ROWS, queries=np.eye(3, dtype=np.float32)[:1])


def test_exact_search_recalls_itself(corpus: np.ndarray, queries: np.ndarray) -> None:
    exact: Matches = exact_search(corpus, queries, 20)
    np.testing.assert_array_equal(ann_recall_at_k(exact.rows, exact, 20), np.ones(20))
    np.testing.assert_array_equal(ann_recall_at_k(exact.rows[:, 10:], exact, 10), np.zeros(20))


@pytest.mark.parametrize(("recalls", "queries", "low", "high"), [
    ([1.0, 0.0] * 50, 100, 0.4038, 0.5962),  # 50 of 100: Wilson's interval
    ([1.0] * 19, 19, 0.8318, 1.0),  # 19 / (19 + 1.96^2)
    ([0.75, 0.25] * 50, 100, 0.4512, 0.5488),  # tells as much as 400 of yes or no
])
def test_the_interval_of_a_recall(recalls: list[float], queries: int, low: float, high: float) -> None:
    found = recall_module.recall_estimate(np.array(recalls))
    assert (found.value, found.queries) == (np.mean(recalls), queries)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(("ties", "expected"), [(False, 1 / 3), (True, 2 / 3)])
def test_rows_in_further_columns_stand_in_for_the_last_place(ties: bool, expected: float) -> None:
    """Of rows 1 to 5 the third, fourth and fifth score alike: 4 and 5 make up for 3 alone."""
    exact = Matches(np.array([[0.9, 0.8, 0.7, 0.7, 0.7]], np.float32), np.array([[1, 2, 3, 4, 5]]))
    assert ann_recall_at_k(np.array([[1, 5, 4]]), exact, 3, ties=ties)[0] == pytest.approx(expected)
