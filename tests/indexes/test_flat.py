from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexes import candidates as candidates_room
from indexes import flat as room
from indexes import rescoring
from indexes.build import build_index
from indexes.errors import DimensionError, SpecError, VectorError, VectorIndexError
from indexes.flat import FlatIndex
from indexes.matches import Matches
from indexes.spec import IndexSpec

QUERIES_AT_ONCE = (1, 20)  # scanned, and multiplied


def brute_force(halves: np.ndarray, queries: np.ndarray, k: int, live: Any = None) -> Matches:
    """Cosines in float64, rounded to float32, sorted; equal ones by lower row."""
    exact = halves.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    asked = queries.astype(np.float64)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    scores = np.einsum("qd,nd->qn", asked, exact).astype(np.float32)
    if live is not None:
        scores[:, np.setdiff1d(np.arange(len(halves)), live)] = -np.inf
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return Matches(np.take_along_axis(scores, rows, axis=1), rows)


def assert_same(found: Matches, expected: Matches) -> None:
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-7, rtol=0)


@pytest.fixture(scope="module")
def halves(corpus: np.ndarray) -> np.ndarray:
    return corpus.astype(np.float16)


@pytest.fixture(params=QUERIES_AT_ONCE, ids=["one by one", "at once"])
def search(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """search(index, queries, k), with so many queries at a time, over many small blocks."""
    monkeypatch.setattr(candidates_room, "_SCAN_ROWS", 128)
    monkeypatch.setattr(candidates_room, "_BLOCK_ROWS", 128)
    monkeypatch.setattr(rescoring, "_PAIRS_AT_ONCE", 200)

    def search(index: FlatIndex, queries: np.ndarray, k: int) -> Matches:
        parts = [index.search(queries[i : i + request.param], k)
                 for i in range(0, len(queries), request.param)]  # fmt: skip
        return Matches(*(np.concatenate(part) for part in zip(*parts)))

    return search


# --- values ---------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 10, 600])
def test_equals_brute_force_in_float64(
    search: Any, k: int, halves: np.ndarray, queries: np.ndarray
) -> None:
    found = search(FlatIndex(halves), queries, k)
    assert found.scores.dtype == np.float32 and found.rows.dtype == np.int64
    assert_same(found, brute_force(halves, queries, k))


def test_equals_a_flat_index_of_faiss(
    search: Any, halves: np.ndarray, queries: np.ndarray
) -> None:
    built = build_index(halves, IndexSpec("Flat"), device="cpu").search(queries, 10)
    found = search(FlatIndex(halves), queries, 10)
    np.testing.assert_array_equal(found.rows, built.rows)
    np.testing.assert_allclose(found.scores, built.scores, atol=1e-6)


@pytest.mark.parametrize("spread", [3e-3, 3e-4, 3e-5, 0.0])
def test_near_ties_and_duplicates_come_in_their_true_order(
    search: Any, spread: float, unit_vectors: Any
) -> None:
    """3,000 rows so near each other that the rough scores say little, among them many alike."""
    random = np.random.default_rng(5)
    centre = unit_vectors(1, 64, seed=3)
    near = centre + spread / 8 * random.standard_normal((3000, 64))
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    halves = near.astype(np.float16)
    halves[random.choice(3000, 1000)] = halves[17]
    queries = np.concatenate([centre, -centre, unit_vectors(3, 64, seed=4)])
    assert_same(search(FlatIndex(halves), queries, 10), brute_force(halves, queries, 10))


def test_equal_rows_come_by_lower_row(search: Any, halves: np.ndarray) -> None:
    """Every row 70 times, more often than there are candidates to spare."""
    copies = np.concatenate([halves[:10]] * 70)
    queries = halves[:3].astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    scores, rows = search(FlatIndex(copies), queries, 12)
    assert rows.tolist() == [list(range(i, 120, 10)) for i in range(3)]
    assert (scores == scores[:, :1]).all()


def test_a_query_has_the_same_answer_alone_and_among_others(
    halves: np.ndarray, queries: np.ndarray
) -> None:
    index = FlatIndex(halves)
    together = index.search(queries, 10)
    for i in range(20):
        alone = index.search(queries[i : i + 1], 10)
        np.testing.assert_array_equal(alone.rows[0], together.rows[i])
        np.testing.assert_array_equal(alone.scores[0], together.scores[i])


def test_more_candidates_are_taken_until_none_can_be_missing(
    search: Any, halves: np.ndarray, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_SPARE", 1)
    monkeypatch.setattr(room, "_WIDER", 2)
    widths: list[int] = []
    whole = room.candidates
    monkeypatch.setattr(
        room, "candidates", lambda rows, asked, width: (
            widths.append(width), whole(rows, asked, width))[1]
    )  # fmt: skip
    doubled = np.concatenate([halves, halves])  # the second of a pair is always as near
    assert_same(search(FlatIndex(doubled), queries, 3), brute_force(doubled, queries, 3))
    assert min(widths) == 4 and max(widths) >= 8


@pytest.mark.parametrize("k", [1, 10, 500])
def test_rows_that_do_not_count(
    search: Any, k: int, halves: np.ndarray, queries: np.ndarray
) -> None:
    live = np.flatnonzero(np.arange(600) % 3)
    index = FlatIndex(halves, live)
    assert index.n == 400
    scores, rows = search(index, queries, k)
    real = min(k, 400)
    assert_same(Matches(scores[:, :real], rows[:, :real]), brute_force(halves, queries, real, live))
    assert (rows[:, real:] == -1).all() and (scores[:, real:] == -np.inf).all()


def test_rows_that_all_count_need_no_mask(halves: np.ndarray) -> None:
    assert FlatIndex(halves, np.arange(600))._rows.live is None


def test_a_memory_map_is_read_where_it_lies(
    search: Any, halves: np.ndarray, queries: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "v.npy", halves)
    stored = np.load(tmp_path / "v.npy", mmap_mode="r")
    index = FlatIndex(stored)
    assert np.shares_memory(index._rows.read(range(100, 200)), stored)
    assert_same(search(index, queries, 5), brute_force(halves, queries, 5))


def test_no_row_is_read_before_the_first_search() -> None:
    class Unread:
        shape, dtype = (10**9, 512), np.dtype(np.float16)

    index = FlatIndex(Unread())
    assert (index.n, index.dim, index.device) == (10**9, 512, "cpu")
    assert index.nbytes == 10**9 * 1024
    assert index.spec == IndexSpec("Flat")
    assert repr(index) == 'FlatIndex("Flat", n=1000000000, dim=512, cpu)'


def test_searching_exhaustively_is_searching(halves: np.ndarray, queries: np.ndarray) -> None:
    index = FlatIndex(halves)
    assert_same(index.search_exhaustively(queries, 10), index.search(queries, 10))


def test_k_above_n_pads(search: Any, halves: np.ndarray, queries: np.ndarray) -> None:
    scores, rows = search(FlatIndex(halves[:4]), queries, 6)
    assert (rows[:, 4:] == -1).all() and (scores[:, 4:] == -np.inf).all()
    assert_same(Matches(scores[:, :4], rows[:, :4]), brute_force(halves[:4], queries, 4))


def test_nothing_to_search_and_nothing_asked(halves: np.ndarray, queries: np.ndarray) -> None:
    for index in (FlatIndex(halves[:0]), FlatIndex(halves, np.array([], np.int64))):
        scores, rows = index.search(queries[:2], 3)
        assert index.n == 0
        assert rows.tolist() == [[-1] * 3] * 2 and scores.tolist() == [[-np.inf] * 3] * 2
    assert FlatIndex(halves).search(queries[:0], 3).rows.shape == (0, 3)


def test_the_length_of_a_query_within_the_tolerance_makes_no_difference(
    search: Any, halves: np.ndarray, queries: np.ndarray
) -> None:
    longer = search(FlatIndex(halves), queries * np.float32(1.0009), 10)
    assert_same(longer, brute_force(halves, queries, 10))


def test_searches_in_threads_do_not_disturb_each_other(
    halves: np.ndarray, queries: np.ndarray
) -> None:
    index = FlatIndex(halves)
    expected = index.search(queries, 10)
    parts = [slice(i, i + (1 if i % 2 else 5)) for i in range(15)] * 4
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda part: index.search(queries[part], 10), parts))
    for part, matches in zip(parts, found):
        np.testing.assert_array_equal(matches.rows, expected.rows[part])
        np.testing.assert_array_equal(matches.scores, expected.scores[part])


# --- what is refused ------------------------------------------------------------------------


def test_unfit_queries(halves: np.ndarray, queries: np.ndarray) -> None:
    index = FlatIndex(halves)
    with pytest.raises(DimensionError, match="queries are 4-d, the index is 32-d"):
        index.search(np.eye(4, dtype=np.float32), 1)
    with pytest.raises(VectorError, match="queries must be float32, got float64"):
        index.search(queries.astype(np.float64), 1)
    with pytest.raises(VectorError, match="queries row 0 has norm 3"):
        index.search(queries * np.float32(3), 1)


@pytest.mark.parametrize("k", [0, -5, 1.0, None])
def test_k_below_one(k: Any, halves: np.ndarray, queries: np.ndarray) -> None:
    with pytest.raises(VectorIndexError, match="k must be a whole number of at least 1, got"):
        FlatIndex(halves).search(queries, k)


def test_search_parameters_mean_nothing(halves: np.ndarray, queries: np.ndarray) -> None:
    with pytest.raises(SpecError, match='nprobe means nothing to "Flat"'):
        FlatIndex(halves).search(queries, 1, nprobe=4)
    with pytest.raises(SpecError, match="ef_search must be a whole number of at least 1, got 0"):
        FlatIndex(halves).search(queries, 1, ef_search=0)


def test_a_row_off_unit_length_is_named_when_it_comes_into_question(
    search: Any, halves: np.ndarray, queries: np.ndarray
) -> None:
    spoilt = halves.copy()
    spoilt[417] = 2 * halves[417]
    with pytest.raises(VectorError, match="vectors row 417 has norm 2"):
        search(FlatIndex(spoilt), halves[417:418].astype(np.float32), 1)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((3, 4), np.float32), "must be float16, got float32"),
        ([[1.0, 0.0]], r"must be an array of shape \(n, d\)"),
        (np.zeros(3, np.float16), r"must be an array of shape \(n, d\)"),
    ],
)
def test_unfit_vectors(vectors: Any, message: str) -> None:
    with pytest.raises(VectorError, match=message):
        FlatIndex(vectors)


@pytest.mark.parametrize(
    ("live", "message"),
    [
        (np.arange(3, dtype=np.int32), r"live must be int64 of shape \(m,\), got int32"),
        (np.array([[0, 1]]), r"got int64 of shape \(1, 2\)"),
        (np.array([0, 2, 2]), r"strictly increasing rows of 0..599"),
        (np.array([-1, 2]), r"strictly increasing rows of 0..599"),
        (np.array([0, 600]), r"strictly increasing rows of 0..599"),
    ],
)
def test_unfit_live_rows(live: np.ndarray, message: str, halves: np.ndarray) -> None:
    with pytest.raises(VectorError, match=message):
        FlatIndex(halves, live)


def test_a_bias_is_checked_anew_only_if_it_is_another_one(unit_vectors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []
    whole = room.as_bias
    monkeypatch.setattr(room, "as_bias", lambda bias, n: checked.append(len(bias)) or whole(bias, n))
    halves = unit_vectors(30, 8, seed=1).astype(np.float16)
    index, queries = FlatIndex(halves), unit_vectors(1, 8, seed=2)
    first, other = np.linspace(0, 1, 30, dtype=np.float32), np.linspace(1, 0, 31, dtype=np.float32)
    for bias in (first, first, other, first, None, first):
        expected = np.argsort(-(halves.astype(np.float64) @ queries[0] - (0 if bias is None else bias[:30])))[:3]
        assert index.search(queries, 3, bias=bias).rows[0].tolist() == expected.tolist()
    assert checked == [30, 31, 30]
