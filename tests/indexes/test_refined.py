from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from indexes import filtered as filtered_room
from indexes import index as index_room
from indexes.build import build_index
from indexes.errors import DimensionError, SpecError, VectorError, VectorIndexError
from indexes.exact import exact_search
from indexes.flat import FlatIndex
from indexes.live import LiveIndex
from indexes.refined import RefinedIndex
from indexes.rows import Rows
from indexes.scan import scan
from indexes.spec import IndexSpec

SMALL_CODES = ["PQ16x4fs", "IVF4,PQ16x4fs", "IVF4,SQ4", "RaBitQ", "IVF4,RaBitQ", "IVF4,RaBitQfs"]


class Sliced:
    """Vectors that know slices and nothing else."""

    dtype = np.dtype(np.float16)

    def __init__(self, vectors: np.ndarray) -> None:
        self._vectors, self.shape = vectors, vectors.shape

    def __getitem__(self, rows: slice) -> np.ndarray:
        assert isinstance(rows, slice)
        return self._vectors[rows]


class Gathered(Sliced):
    """Vectors that give chosen rows as well."""

    gathered = 0

    def take_halves(self, rows: np.ndarray, room: np.ndarray | None = None) -> np.ndarray:
        self.gathered += len(rows)
        return np.take(self._vectors, rows, axis=0, out=room)


@pytest.fixture(scope="module")
def halves(corpus: np.ndarray) -> np.ndarray:
    return corpus.astype(np.float16)


def refined(halves: Any, factory: str = "PQ16x4fs", refine: int = 10, **search: Any) -> RefinedIndex:
    spec = IndexSpec(factory, refine=refine, **search)
    return RefinedIndex(build_index(halves[0 : halves.shape[0]], spec, device="cpu"), halves)


@pytest.mark.parametrize("factory", SMALL_CODES)
def test_with_every_row_a_candidate_it_is_exact_search(
    factory: str, halves: np.ndarray, queries: np.ndarray
) -> None:
    nprobe = 4 if factory.startswith("IVF") else None
    found = refined(halves, factory, refine=60, nprobe=nprobe).search(queries, 10)
    expected = FlatIndex(halves).search(queries, 10)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)
    exact = exact_search(halves, queries, 10)
    np.testing.assert_allclose(found.scores, exact.scores, atol=1e-6)
    assert (np.abs(found.scores) <= 1).all() and (np.diff(found.scores, axis=1) <= 0).all()


def test_it_finds_the_best_of_its_candidates(halves: np.ndarray, queries: np.ndarray) -> None:
    index = refined(halves, refine=3)
    candidates = index.index.search(queries, 30).rows
    found = index.search(queries, 10)
    truth = FlatIndex(halves).search(queries, 600)
    for i in range(len(queries)):
        best = [row for row in truth.rows[i] if row in candidates[i]][:10]
        assert found.rows[i].tolist() == best
    assert (found.rows != truth.rows[:, :10]).any()  # else there was nothing to tell apart


def test_a_wider_search_finds_more(halves: np.ndarray, queries: np.ndarray) -> None:
    index, truth = refined(halves, "RaBitQ", refine=1), FlatIndex(halves).search(queries, 10).rows

    def hits(**asked: int) -> int:
        found = index.search(queries, 10, **asked).rows
        return sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist()))

    assert hits() == hits(refine=1) < hits(refine=4) < hits(refine=60) == truth.size


def test_one_query_and_many_are_answered_alike(halves: np.ndarray, queries: np.ndarray) -> None:
    index = refined(halves, refine=4)
    many = np.concatenate([queries] * 5)  # more than are compared at once
    together = index.search(many, 7)
    for i in range(0, 100, 9):
        alone = index.search(many[i : i + 1], 7)
        np.testing.assert_array_equal(alone.rows[0], together.rows[i])
        np.testing.assert_array_equal(alone.scores[0], together.scores[i])


@pytest.mark.parametrize("kind", [Sliced, Gathered])
def test_vectors_need_not_be_an_array(kind: Any, halves: np.ndarray, queries: np.ndarray) -> None:
    vectors = kind(halves)
    found, expected = refined(vectors).search(queries, 5), refined(halves).search(queries, 5)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert kind is Sliced or vectors.gathered >= 20 * 50


def test_vectors_may_be_mapped(tmp_path: Any, halves: np.ndarray, queries: np.ndarray) -> None:
    np.save(tmp_path / "vectors.npy", halves)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    found, expected = refined(mapped).search(queries, 5), refined(halves).search(queries, 5)
    np.testing.assert_array_equal(found.rows, expected.rows)


def test_gathering_gives_the_rows_in_the_order_asked_for(halves: np.ndarray) -> None:
    asked = np.array([5, 0, 599, 5])
    for vectors in (halves, Sliced(halves), Gathered(halves)):
        np.testing.assert_array_equal(Rows(vectors, 600, 32, None).gather(asked), halves[asked])


def test_rows_that_were_left_out_are_not_found(halves: np.ndarray, queries: np.ndarray) -> None:
    """The index numbers rows as `vectors` does, and has every third of them."""
    live = np.arange(0, 600, 3, dtype=np.int64)
    inner = build_index(halves[live], IndexSpec("PQ16x4fs", refine=20), rows=live, device="cpu")
    index = RefinedIndex(inner, halves)
    expected = FlatIndex(halves, live).search(queries, 10)
    for found in (index.search(queries, 10), index.search_exhaustively(queries, 10)):
        np.testing.assert_array_equal(found.rows, expected.rows)
        np.testing.assert_array_equal(found.scores, expected.scores)


def test_searching_exhaustively_misses_nothing(halves: np.ndarray, queries: np.ndarray) -> None:
    index = refined(halves, "IVF16,PQ4x4fs", refine=1, nprobe=1)
    found, expected = index.search_exhaustively(queries, 10), FlatIndex(halves).search(queries, 10)
    np.testing.assert_array_equal(found.rows, expected.rows)
    assert (index.search(queries, 10).rows != expected.rows).any()


def test_equal_rows_come_by_lower_row(halves: np.ndarray) -> None:
    copies = np.concatenate([halves[:50]] * 8)  # (400, 32)
    query = halves[3:4].astype(np.float32)
    query /= np.linalg.norm(query)
    scores, rows = refined(copies, refine=50).search(query, 8)
    assert rows.tolist() == [[3, 53, 103, 153, 203, 253, 303, 353]]
    assert (scores == scores[0, 0]).all()


def test_short_lists_are_padded(halves: np.ndarray, queries: np.ndarray) -> None:
    index = refined(halves, refine=2)
    scores, rows = index.search(queries, 700)
    assert sorted(rows[0, :600].tolist()) == list(range(600))
    assert (rows[:, 600:] == -1).all() and (scores[:, 600:] == -np.inf).all()


@pytest.mark.parametrize("wrapped", [False, True], ids=["refined", "live"])
def test_it_is_content_with_k_where_there_are_too_few_candidates(
    wrapped: bool, halves: np.ndarray, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists of about 150: 10 results are there, 20 times as many candidates are not."""
    index: Any = refined(halves, "IVF4,SQ8", refine=20, nprobe=2)
    index = LiveIndex(index, np.arange(600) < 590) if wrapped else index
    asked: list[int] = []
    for room in (index_room, filtered_room):
        monkeypatch.setattr(
            room, "scan", lambda index, some, *rest: (asked.append(len(some)), scan(index, some, *rest))[1]
        )
    assert (index.search(queries, 30).rows >= 0).all()
    assert asked == []
    found, there = index.search(queries, 600).rows, index.n
    assert asked == [20]
    assert [sorted(line) for line in found[:, :there].tolist()] == [list(range(there))] * 20
    assert (index.search(queries, 600, enough=0).rows[:, -100:] == -1).all()


def test_an_empty_index_and_no_queries(halves: np.ndarray, queries: np.ndarray) -> None:
    empty = RefinedIndex(build_index(halves[:0], IndexSpec("Flat", refine=2)), halves)
    assert (empty.search(queries, 3).rows == -1).all()
    none = refined(halves).search(queries[:0], 3)
    assert none.rows.shape == none.scores.shape == (0, 3)


def test_what_it_says_of_itself(halves: np.ndarray) -> None:
    index = refined(halves, refine=10)
    assert (index.n, index.dim, index.device, index.spec.refine) == (600, 32, "cpu", 10)
    assert index.nbytes == index.index.nbytes < halves.nbytes
    assert repr(index) == 'RefinedIndex("PQ16x4fs", refine=10, n=600, dim=32, cpu)'


def test_allowed_rows_are_passed_on(
    halves: np.ndarray, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, inner = refined(halves), refined(halves).index
    asked: list[dict[str, Any]] = []

    def search(queries: Any, k: int, **named: Any) -> Any:
        asked.append(named)
        return inner.search(queries, k)

    monkeypatch.setattr(index.index, "search", search)
    index.search(queries, 3)
    index.search(queries, 3, nprobe=2, allowed="these")
    assert asked == [
        {"nprobe": None, "ef_search": None, "allowed": None, "enough": 3},
        {"nprobe": 2, "ef_search": None, "allowed": "these", "enough": 3},
    ]


def test_bad_input_is_refused(halves: np.ndarray, queries: np.ndarray) -> None:
    index = refined(halves)
    with pytest.raises(DimensionError, match="16-d, the index is 32-d"):
        index.search(queries[:, :16] / np.linalg.norm(queries[:, :16], axis=1, keepdims=True), 3)
    with pytest.raises(VectorError, match="queries must be float32, got float64"):
        index.search(queries.astype(np.float64), 3)
    with pytest.raises(VectorError, match="queries row 0 has a non-finite value"):
        index.search(np.full((1, 32), np.nan, np.float32), 3)
    with pytest.raises(VectorIndexError, match="k must be a whole number of at least 1, got 0"):
        index.search(queries, 0)
    with pytest.raises(SpecError, match="refine must be a whole number of at least 1, got 0"):
        index.search(queries, 3, refine=0)
    with pytest.raises(SpecError, match='nprobe means nothing to "PQ16x4fs"'):
        index.search(queries, 3, nprobe=2)


def test_parts_that_do_not_fit_are_refused(halves: np.ndarray) -> None:
    inner = build_index(halves, IndexSpec("PQ16x4fs", refine=2), device="cpu")
    with pytest.raises(SpecError, match='The spec of "Flat" does not refine'):
        RefinedIndex(build_index(halves, IndexSpec("Flat"), device="cpu"), halves)
    with pytest.raises(VectorError, match="must be float16, got float32"):
        RefinedIndex(inner, halves.astype(np.float32))
    with pytest.raises(VectorIndexError, match="An index of 600 vectors of 32 dimensions"):
        RefinedIndex(inner, halves[:599])


def test_a_row_that_is_not_of_unit_length_is_named(
    halves: np.ndarray, queries: np.ndarray
) -> None:
    inner = build_index(halves, IndexSpec("PQ16x4fs", refine=60), device="cpu")
    spoilt = halves.copy()
    best = int(FlatIndex(halves).search(queries[:1], 1).rows[0, 0])
    spoilt[best] *= np.float16(1.25)
    with pytest.raises(VectorError, match=f"row {best} has norm 1.25, not 1"):
        RefinedIndex(inner, spoilt).search(queries[:1], 3)
