from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from indexes import biased as room
from indexes import candidates as candidates_room
from indexes.biased import search_biased
from indexes.build import build_index
from indexes.errors import VectorIndexError
from indexes.flat import FlatIndex
from indexes.matches import Matches
from indexes.refined import RefinedIndex
from indexes.spec import IndexSpec

N, K = 3000, 10


@pytest.fixture(scope="module")
def halves(unit_vectors: Any) -> np.ndarray:
    return unit_vectors(N, seed=7).astype(np.float16)


@pytest.fixture(scope="module", params=[0.0, 0.02, 0.5], ids="spread {}".format)
def bias(request: pytest.FixtureRequest) -> np.ndarray:
    spread = request.param
    return (0.3 + spread * np.random.default_rng(1).standard_normal(N)).astype(np.float32)


def brute_force(
    halves: np.ndarray, queries: np.ndarray, bias: np.ndarray, allowed: np.ndarray, k: int
) -> Matches:
    """Float64 cosines in the order of what they are less the bias; equal ones by lower row."""
    exact = halves.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    asked = queries / np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
    scores = asked @ exact.T
    keys = np.where(allowed, scores - bias, -np.inf)
    rows = np.argsort(-keys, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(np.where(allowed, scores, -np.inf), rows, axis=1)
    return Matches(found.astype(np.float32), np.where(np.isfinite(found), rows, -1))


def assert_same(found: Matches, expected: Matches) -> None:
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)


@pytest.mark.parametrize("share", [1.0, 0.3, 0.001])
@pytest.mark.parametrize("at_once", [1, 20], ids=["one by one", "at once"])
def test_stored_vectors_are_searched_exactly(
    at_once: int, share: float, bias: Any, halves: Any, queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates_room, "_SCAN_ROWS", 512)
    monkeypatch.setattr(candidates_room, "_BLOCK_ROWS", 512)
    allowed = np.random.default_rng(2).random(N) < share
    index = FlatIndex(halves)
    parts = [search_biased(index, queries[i : i + at_once], K, bias, allowed=allowed)
             for i in range(0, 20, at_once)]  # fmt: skip
    found = Matches(*(np.concatenate(part) for part in zip(*parts)))
    assert_same(found, brute_force(halves, queries, bias, allowed, K))


def test_a_far_row_with_a_low_bias_comes_first(halves: np.ndarray, queries: np.ndarray) -> None:
    """In a block whose best are all better without their bias."""
    worst = int(np.argmin(halves[:, :].astype(np.float32) @ queries[0]))
    bias = np.zeros(N, np.float32)
    bias[worst] = -3
    for some in (queries[:1], queries):
        found = search_biased(FlatIndex(halves), some, 2, bias)
        assert (found.rows[:, 0] == worst).all()
        assert found.scores[0, 0] < -0.3 and found.scores[0, 0] < found.scores[0, 1]


def test_without_spread_it_is_search(halves: np.ndarray, queries: np.ndarray) -> None:
    for index in (FlatIndex(halves), build_index(halves, IndexSpec("SQ8"), device="cpu")):
        expected = index.search(queries, K)
        found = search_biased(index, queries, K, np.full(N, 0.25, np.float32))
        np.testing.assert_array_equal(found.scores, expected.scores)
        if isinstance(index, FlatIndex):
            np.testing.assert_array_equal(found.rows, expected.rows)


SPECS = [
    IndexSpec("Flat"), IndexSpec("IVF16,Flat", nprobe=16), IndexSpec("HNSW32", ef_search=600),
]  # fmt: skip


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.factory)
@pytest.mark.parametrize("sparse", [False, True], ids=["all rows", "rows left out"])
def test_an_index_that_knows_nothing_of_it(
    spec: IndexSpec, sparse: bool, bias: Any, halves: Any, queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_AT_MOST", N)
    rows = np.arange(N) * 3 + 5 if sparse else np.arange(N)
    of_rows = np.zeros(rows[-1] + 1, np.float32)
    of_rows[rows] = bias
    index = build_index(halves, spec, rows=rows if sparse else None, device="cpu")
    found = search_biased(index, queries, K, of_rows)
    expected = brute_force(halves, queries, bias, np.ones(N, bool), K)
    np.testing.assert_array_equal(found.rows, rows[expected.rows])
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_a_refined_index(halves: np.ndarray, queries: np.ndarray) -> None:
    bias = (0.02 * np.random.default_rng(1).standard_normal(N)).astype(np.float32)
    inner = build_index(halves, IndexSpec("IVF16,SQ4", nprobe=16, refine=10), device="cpu")
    found = search_biased(RefinedIndex(inner, halves), queries, K, bias)
    assert_same(found, brute_force(halves, queries, bias, np.ones(N, bool), K))


def test_more_are_asked_for_until_none_can_be_missing(
    halves: np.ndarray, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = build_index(halves, device="cpu")
    widths: list[int] = []
    search = index.search
    monkeypatch.setattr(
        index, "search", lambda some, k, **settings: (widths.append(k), search(some, k, **settings))[1]
    )
    search_biased(index, queries, K, np.zeros(N, np.float32))
    assert widths == [74]
    widths.clear()
    search_biased(index, queries, K, np.linspace(-1, 1, N, dtype=np.float32))
    assert widths[:2] == [74, 296] and max(widths) <= 2048


def test_the_spare_candidates_are_worth_no_scan(
    halves: np.ndarray, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One list of about 90 holds 10 results, and not all of the 74 asked for."""
    index = build_index(halves, IndexSpec("IVF64,Flat", nprobe=1), device="cpu")
    monkeypatch.setattr("indexes.index.scan", None)  # a call would fail
    rows = search_biased(index, queries, 5, np.zeros(N, np.float32)).rows
    np.testing.assert_array_equal(rows, index.search(queries, 5).rows)


def test_fewer_than_asked_for(halves: np.ndarray, queries: np.ndarray) -> None:
    for index in (FlatIndex(halves[:3]), build_index(halves[:3], device="cpu")):
        scores, rows = search_biased(index, queries[:2], 5, np.array([0, -9, 9], np.float32))
        assert rows.tolist() == [[1, 0, 2, -1, -1]] * 2
        assert np.isfinite(scores[:, :3]).all() and (scores[:, 3:] == -np.inf).all()
    nothing = build_index(np.zeros((0, 32), np.float32), device="cpu")
    assert search_biased(nothing, queries[:2], 1, np.zeros(0, np.float32)).rows.tolist() == [[-1]] * 2


@pytest.mark.parametrize(
    ("bias", "message"),
    [
        (np.zeros(N), "bias must be float32 .* got float64"),
        (np.zeros(N - 1, np.float32), "n at least 3000, got float32 of shape .2999"),
        (np.full(N, np.nan, np.float32), "bias of row 0 is not finite"),
    ],
)
def test_unfit_biases(bias: Any, message: str, halves: np.ndarray, queries: np.ndarray) -> None:
    for index in (FlatIndex(halves), build_index(halves, device="cpu")):
        with pytest.raises(VectorIndexError, match=message):
            search_biased(index, queries, N, bias)
