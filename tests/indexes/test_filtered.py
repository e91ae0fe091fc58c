from __future__ import annotations

import re
from typing import Any

import faiss
import numpy as np
import pytest

from indexes import candidates as candidates_room
from indexes import filtered as room
from indexes.build import build_index
from indexes.errors import VectorIndexError
from indexes.flat import FlatIndex
from indexes.index import VectorIndex
from indexes.matches import Matches
from indexes.refined import RefinedIndex
from indexes.spec import IndexSpec

N = 3000
K = 10
NUMBERINGS = {"all rows": None, "rows left out": np.arange(N, dtype=np.int64) * 3 + 5}

# Searches that visit everything, whatever is allowed: exact, up to the codes.
EXHAUSTIVE = [
    IndexSpec("Flat"),
    IndexSpec("SQfp16"),
    IndexSpec("PCA16,SQ8"),
    IndexSpec("RaBitQ"),
    IndexSpec("PQ8"),
    IndexSpec("PQ8x4fs"),
    IndexSpec("RQ2x4"),
    IndexSpec("IVF16,Flat", nprobe=16),
    IndexSpec("IVF16,SQ8", nprobe=16),
    IndexSpec("IVF16,PQ8x4fs", nprobe=16),
    IndexSpec("IVF16,RaBitQfs", nprobe=16),
    IndexSpec("IVF16,RQ2x4", nprobe=16),
]
# Searches that leave something out.
APPROXIMATE = [
    IndexSpec("SQ8,RFlat"),
    IndexSpec("IVF32,Flat", nprobe=4),
    IndexSpec("IVF32,SQfp16,RFlat", nprobe=4),
    IndexSpec("L2norm,IVF32_HNSW8,Flat", nprobe=4, ef_search=32),
    IndexSpec("IVF32,RQ4x8,RFlat", nprobe=12),
    IndexSpec("HNSW8", ef_search=16),
    IndexSpec("HNSW8_SQ8,RFlat", ef_search=16),
    IndexSpec("NSG16"),
]


@pytest.fixture(scope="module")
def vectors(unit_vectors: Any) -> np.ndarray:
    return unit_vectors(N, seed=7)  # (N, 32)


@pytest.fixture(scope="module", params=NUMBERINGS, ids=str)
def rows(request: pytest.FixtureRequest) -> np.ndarray | None:
    return NUMBERINGS[request.param]


@pytest.fixture(scope="module", params=EXHAUSTIVE, ids=lambda spec: spec.factory)
def exhaustive(request: pytest.FixtureRequest, rows: Any, vectors: np.ndarray) -> VectorIndex:
    return build_index(vectors, request.param, rows=rows, device="cpu")


@pytest.fixture(scope="module", params=APPROXIMATE, ids=lambda spec: spec.factory)
def approximate(request: pytest.FixtureRequest, rows: Any, vectors: np.ndarray) -> VectorIndex:
    return build_index(vectors, request.param, rows=rows, device="cpu")


SHARES = ["one row", 0.001, 0.1, 0.9, "all", "none"]


def some_positions(share: Any) -> np.ndarray:
    """Which of the N vectors are allowed. (N,) bool"""
    if share == "one row":
        return np.arange(N) == 1234
    if share in ("all", "none"):
        return np.full(N, share == "all")
    return np.random.default_rng(3).permutation(N) < share * N


def by_row(mask: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """The same by row number; rows that the index does not have are allowed, and make no difference."""
    if rows is None:
        return mask
    allowed = np.ones(int(rows.max()) + 1, bool)
    allowed[rows] = mask
    return allowed


def only(everything: Matches, allowed: np.ndarray, k: int) -> Matches:
    """The first k allowed of all rows in their order; padded."""
    expected = Matches(np.full((len(everything.rows), k), -np.inf, np.float32),
                       np.full((len(everything.rows), k), -1, np.int64))  # fmt: skip
    for i, (scores, found) in enumerate(zip(*everything)):
        kept = allowed[found][: len(found)]
        m = min(k, int(kept.sum()))
        expected.scores[i, :m] = scores[kept][:k]
        expected.rows[i, :m] = found[kept][:k]
    return expected


def brute_force(
    vectors: np.ndarray, queries: np.ndarray, rows: np.ndarray | None, allowed: np.ndarray, k: int
) -> Matches:
    """float64 products, sorted; equal ones by lower row."""
    scores = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    order = np.argsort(-scores, axis=1, kind="stable")
    numbers = np.arange(len(vectors)) if rows is None else rows
    scores = np.take_along_axis(scores, order, axis=1).astype(np.float32)
    return only(Matches(scores, numbers[order]), allowed, k)


# --- values ---------------------------------------------------------------------------------


@pytest.mark.parametrize("share", SHARES)
def test_the_best_of_what_is_allowed(
    exhaustive: VectorIndex, rows: Any, share: Any, vectors: np.ndarray, queries: np.ndarray
) -> None:
    allowed = by_row(some_positions(share), rows)
    found = exhaustive.search(queries, K, allowed=allowed)
    expected = only(exhaustive.search_exhaustively(queries, N), allowed, K)
    assert found.rows.shape == (20, K)
    if re.search("fs|RaBitQ|RQ", exhaustive.spec.factory):
        # Many vectors share one code, and what is decoded scores a little differently.
        np.testing.assert_allclose(found.scores, expected.scores, atol=0.05)
        assert allowed[found.rows[found.rows >= 0]].all()
        np.testing.assert_array_equal(found.rows < 0, expected.rows < 0)
    else:
        np.testing.assert_array_equal(found.rows, expected.rows)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    if exhaustive.spec.factory in ("Flat", "IVF16,Flat"):
        truth = brute_force(vectors, queries, rows, allowed, K)
        np.testing.assert_array_equal(found.rows, truth.rows)


@pytest.mark.parametrize("share", SHARES)
def test_an_approximate_search_finds_as_many_as_are_allowed(
    approximate: VectorIndex, rows: Any, share: Any, vectors: np.ndarray, queries: np.ndarray
) -> None:
    mask = some_positions(share)
    allowed = by_row(mask, rows)
    scores, found = approximate.search(queries, K, allowed=allowed)
    there = min(K, int(mask.sum()))
    assert (found[:, :there] >= 0).all() and (found[:, there:] == -1).all()
    assert (scores[:, there:] == -np.inf).all()
    assert allowed[found[:, :there]].all()
    assert all(len(set(line)) == there for line in found[:, :there].tolist())
    truth = brute_force(vectors, queries, rows, allowed, K)
    hits = np.mean([len(set(a) & set(b)) for a, b in zip(found[:, :there].tolist(), truth.rows.tolist())])
    assert hits >= (there if share in ("one row", 0.001) else 0.5 * there)
    positions = found if rows is None else np.searchsorted(rows, found)
    products = np.einsum("qkd,qd->qk", vectors[positions], queries)[:, :there]
    np.testing.assert_allclose(scores[:, :there], products, atol=0.02)


@pytest.mark.parametrize("factory", ["IVF32,Flat", "HNSW8", "PQ8", "NSG16"])
def test_a_query_far_from_all_that_is_allowed(factory: str, vectors: np.ndarray) -> None:
    """The allowed rows lie opposite: an approximate search meets too few of them, or none."""
    query = vectors[:1]
    opposite = np.argsort(vectors @ query[0])[: N // 2]  # farthest first
    allowed = np.zeros(N, bool)
    allowed[opposite] = True
    index = build_index(vectors, IndexSpec(factory), device="cpu")
    _, found = index.search(query, 400, allowed=allowed)
    assert (found >= 0).all() and allowed[found].all()
    if factory != "PQ8":
        assert len(set(found[0].tolist()) & set(opposite[-400:].tolist())) >= 280


def test_what_is_found_short_is_completed_exactly(
    vectors: np.ndarray, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = build_index(vectors, IndexSpec("IVF32,Flat", nprobe=1), device="cpu")
    allowed = some_positions(0.9)
    asked: list[int] = []
    whole = room.scan
    monkeypatch.setattr(
        room, "scan", lambda index, some, *rest: (asked.append(len(some)), whole(index, some, *rest))[1]
    )
    found = index.search(queries, 500, allowed=allowed)
    assert asked == [20]
    truth = brute_force(vectors, queries, None, allowed, 500)
    np.testing.assert_array_equal(found.rows, truth.rows)
    asked.clear()
    assert (index.search(queries, 5, allowed=allowed).rows >= 0).all()
    assert asked == []


def test_few_rows_are_compared_all_and_many_are_not(
    vectors: np.ndarray, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[int] = []
    whole = room.scan
    monkeypatch.setattr(
        room, "scan", lambda index, *rest: (scans.append(index.ntotal), whole(index, *rest))[1]
    )
    index = build_index(vectors, IndexSpec("IVF32,Flat", nprobe=4), device="cpu")
    for share, scanned in ((0.12, True), (0.13, False)):  # 4 of 32 lists are 0.125 of the vectors
        index.search(queries, 1, allowed=some_positions(share))
        assert bool(scans) is scanned
        scans.clear()


def test_fewer_allowed_rows_are_looked_for_in_more_lists(
    vectors: np.ndarray, queries: np.ndarray
) -> None:
    index = build_index(vectors, IndexSpec("IVF32,Flat", nprobe=16), device="cpu")
    allowed = some_positions(0.501)  # so that 32 lists are visited
    found = index.search(queries, K, allowed=allowed)
    truth = brute_force(vectors, queries, None, allowed, K)
    np.testing.assert_array_equal(found.rows, truth.rows)
    everything = brute_force(vectors, queries, None, np.ones(N, bool), K)
    assert not np.array_equal(index.search(queries, K).rows, everything.rows)


def test_a_mask_may_say_more_than_there_are_rows(vectors: np.ndarray, queries: np.ndarray) -> None:
    allowed = np.concatenate([some_positions(0.1), np.ones(50, bool)])
    for index in (build_index(vectors, device="cpu"), FlatIndex(vectors.astype(np.float16))):
        found = index.search(queries, K, allowed=allowed)
        np.testing.assert_array_equal(found.rows, index.search(queries, K, allowed=allowed[:N]).rows)


# --- stored vectors, and refined indexes ----------------------------------------------------


@pytest.fixture(params=[1, 20], ids=["one by one", "at once"])
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(candidates_room, "_SCAN_ROWS", 128)
    monkeypatch.setattr(candidates_room, "_BLOCK_ROWS", 128)
    return request.param


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("live", [None, np.flatnonzero(np.arange(N) % 4)], ids=["all", "deleted"])
def test_stored_vectors(
    share: Any, live: Any, at_once: int, vectors: np.ndarray, queries: np.ndarray
) -> None:
    halves = vectors.astype(np.float16)
    index, allowed = FlatIndex(halves, live), some_positions(share)
    parts = [index.search(queries[i : i + at_once], K, allowed=allowed) for i in range(0, 20, at_once)]
    counting = allowed if live is None else allowed & np.isin(np.arange(N), live)
    stored = halves.astype(np.float64)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    truth = brute_force(stored, queries, None, counting, K)
    np.testing.assert_array_equal(np.concatenate([part.rows for part in parts]), truth.rows)
    found = np.concatenate([part.scores for part in parts])
    np.testing.assert_allclose(found, truth.scores, atol=1e-6)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("factory", ["PQ8x4fs", "IVF16,RaBitQ", "HNSW8_SQ8"])
def test_refined_indexes(
    share: Any, factory: str, vectors: np.ndarray, queries: np.ndarray
) -> None:
    halves, allowed = vectors.astype(np.float16), some_positions(share)
    spec = IndexSpec(factory, refine=30, nprobe=12 if factory.startswith("IVF") else None)
    index = RefinedIndex(build_index(vectors, spec, device="cpu"), halves)
    found = index.search(queries, K, allowed=allowed)
    truth = FlatIndex(halves).search(queries, K, allowed=allowed)
    np.testing.assert_array_equal(found.rows < 0, truth.rows < 0)
    assert allowed[found.rows[found.rows >= 0]].all()
    hits = [len((set(a) & set(b)) - {-1}) for a, b in zip(found.rows.tolist(), truth.rows.tolist())]
    assert np.mean(hits) >= 0.9 * min(K, allowed.sum())
    if share in ("one row", 0.001, "none"):
        np.testing.assert_array_equal(found.rows, truth.rows)
        np.testing.assert_array_equal(found.scores, truth.scores)


# --- what is refused, and what is not --------------------------------------------------------


def some_indexes(vectors: np.ndarray) -> list[Any]:
    return [
        build_index(vectors, IndexSpec("IVF16,Flat"), device="cpu"),
        FlatIndex(vectors.astype(np.float16)),
    ]


@pytest.mark.parametrize(
    ("allowed", "message"),
    [
        (np.ones(N, np.uint8), "allowed must be bool of shape .* got uint8"),
        (np.ones((N, 1), bool), r"got bool of shape \(3000, 1\)"),
        (np.arange(N), "got int64"),
        (np.ones(N - 1, bool), "allowed says nothing of rows 2999 to 2999: .* 3000 long"),
    ],
)
def test_unfit_masks(allowed: Any, message: str, vectors: np.ndarray, queries: np.ndarray) -> None:
    for index in some_indexes(vectors):
        with pytest.raises(VectorIndexError, match=message):
            index.search(queries, K, allowed=allowed)


def test_a_mask_must_reach_the_highest_row_number(vectors: np.ndarray, queries: np.ndarray) -> None:
    rows = NUMBERINGS["rows left out"]
    index = build_index(vectors, IndexSpec("Flat"), rows=rows, device="cpu")
    with pytest.raises(VectorIndexError, match="rows 3000 to 9002: it must be at least 9003 long"):
        index.search(queries, K, allowed=np.ones(N, bool))


def test_an_empty_index(queries: np.ndarray) -> None:
    nothing = np.zeros((0, 32), np.float32)
    for index in (build_index(nothing, device="cpu"), FlatIndex(nothing.astype(np.float16))):
        scores, rows = index.search(queries[:2], 3, allowed=np.zeros(0, bool))
        assert rows.tolist() == [[-1] * 3] * 2 and scores.tolist() == [[-np.inf] * 3] * 2


def test_a_filter_does_not_stick(vectors: np.ndarray, queries: np.ndarray) -> None:
    index = build_index(vectors, IndexSpec("IVF16,Flat", nprobe=4), device="cpu")
    before = index.search(queries, K)
    index.search(queries, K, allowed=some_positions(0.9))
    np.testing.assert_array_equal(index.search(queries, K).rows, before.rows)
    assert isinstance(index.faiss_index, faiss.IndexIVFFlat) and index.faiss_index.nprobe == 1
