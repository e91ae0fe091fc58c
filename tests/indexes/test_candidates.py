from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import torch

from indexes import candidates as room
from indexes.candidates import Candidates, candidates, compare, multiply, scan
from indexes.rows import Rows

PASSES = {
    "scan": scan,
    "multiply in bfloat16": multiply,
    "multiply in float32": multiply,
}
Pass = Callable[[Rows, np.ndarray, int], Candidates]


@pytest.fixture(params=PASSES)
def search(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Pass:
    """Each pass, over many small blocks."""
    if "float" in request.param:
        dtype = getattr(torch, request.param.split()[-1])
        monkeypatch.setattr(room, "_fast_dtype", lambda: dtype)
    monkeypatch.setattr(room, "_SCAN_ROWS", 100)
    monkeypatch.setattr(room, "_BLOCK_ROWS", 100)
    monkeypatch.setattr(room, "_WIDENED_ROWS", 30)
    monkeypatch.setattr(room, "_QUERIES_AT_ONCE", 7)
    return PASSES[request.param]


@pytest.fixture(scope="module")
def halves(corpus: np.ndarray) -> np.ndarray:
    return corpus.astype(np.float16)


def rows_of(halves: np.ndarray, live: np.ndarray | None = None) -> Rows:
    return Rows(halves, *halves.shape, live)


def cosines(halves: np.ndarray, queries: np.ndarray) -> np.ndarray:
    exact = halves.astype(np.float64)
    return queries.astype(np.float64) @ (exact / np.linalg.norm(exact, axis=1, keepdims=True)).T


def assert_holds(found: Candidates, true: np.ndarray) -> None:
    """Scores descend, err by no more than is said, and nothing missing is above what is said of that."""
    real = found.rows >= 0
    assert np.array_equal(real, found.scores > -np.inf)
    assert (np.diff(found.scores[:, : real.all(axis=0).sum()], axis=1) <= 0).all()
    scores = np.where(real, found.scores, 0)
    error = found.fixed + found.share * np.abs(scores)
    of_rows = np.take_along_axis(true, np.maximum(found.rows, 0), axis=1)
    assert (np.abs(scores - of_rows) <= error)[real].all()
    beyond = np.where(np.isfinite(found.beyond), found.beyond, 0)
    above = found.beyond + found.fixed[:, 0] + found.share * np.abs(beyond)
    for line, (numbers, last) in enumerate(zip(found.rows, above)):
        assert len(set(numbers[numbers >= 0])) == (numbers >= 0).sum()
        missing = np.setdiff1d(np.arange(true.shape[1]), numbers)
        assert (true[line, missing] <= last).all()


@pytest.mark.parametrize("width", [1, 20, 130, 600])
def test_errors_stay_within_the_bound(
    search: Pass, width: int, halves: np.ndarray, queries: np.ndarray
) -> None:
    """Blocks of 100 rows: a width of 130 is more than one of them has."""
    found = search(rows_of(halves), queries, width)
    assert found.scores.shape == found.rows.shape == (20, width)
    assert found.scores.dtype == np.float32 and found.rows.dtype == np.int64
    assert_holds(found, cosines(halves, queries))


@pytest.mark.parametrize("spread", [0.01, 0.5])
@pytest.mark.parametrize("width", [1, 20, 130, 600])
def test_scores_less_a_bias_stay_within_the_bound(
    search: Pass, width: int, spread: float, halves: np.ndarray, queries: np.ndarray
) -> None:
    bias = (1 + spread * np.random.default_rng(3).standard_normal(600)).astype(np.float32)
    live = np.arange(600) % 5 != 0
    found = search(Rows(halves, *halves.shape, live, bias), queries, min(width, 480))
    assert_holds(found, np.where(live, cosines(halves, queries) - bias.astype(np.float64), -np.inf))
    if width == 1 and spread == 0.5:  # else this tested nothing
        plain = search(rows_of(halves, live), queries, 1)
        assert (plain.rows != found.rows).any()


@pytest.mark.parametrize("width", [20, 130, 450])
def test_rows_that_do_not_count_are_left_out(
    search: Pass, width: int, halves: np.ndarray, queries: np.ndarray
) -> None:
    """All of the first block are dead, and every fifth row."""
    live = np.arange(600) % 5 != 0
    live[:100] = False
    found = search(rows_of(halves, live), queries, width)
    kept = found.rows[found.rows >= 0]
    assert live[kept].all() and len(kept) == 20 * min(width, live.sum())
    assert_holds(found, np.where(live, cosines(halves, queries), -np.inf))


def test_rows_off_unit_length_stay_within_the_bound(
    search: Pass, corpus: np.ndarray, queries: np.ndarray
) -> None:
    """Nearly as far off as the gate lets vectors pass."""
    lengths = np.where(np.arange(600) % 2, 1.0007, 0.9993)[:, None]
    halves = (corpus * lengths).astype(np.float16)
    norms = np.linalg.norm(halves.astype(np.float64), axis=1)
    assert 1.0007 < norms.max() < 1.001 and 0.999 < norms.min() < 0.9993
    found = search(rows_of(halves), queries, 600)
    assert_holds(found, cosines(halves, queries))


def test_rounding_at_its_worst_stays_within_the_bound(search: Pass) -> None:
    """Components just below the middle of two bfloat16 values: all lose nearly 2**-8 of theirs.

    Every second row has the opposite signs, so that errors add up at both ends.
    """
    worst = 1 + 2.0**-8 - 2.0**-10
    row = np.full(1024, worst / 32)
    row[:6] = 0  # brings the length back to 1
    halves = (np.where(np.arange(6) % 2, -1, 1)[:, None] * row).astype(np.float16)
    assert (halves == halves.astype(np.float64)).all() and halves[0, 9] == worst / 32
    queries = np.repeat(halves[:1].astype(np.float32), 3, axis=0)
    found = search(rows_of(halves), queries, 6)
    assert_holds(found, cosines(halves, queries))


def test_what_is_possible_by_hand() -> None:
    """With errors of 0.1: the second may be as low as 0.5, which 0.41 may reach and 0.39 not."""
    scores = np.array([[0.9, 0.6, 0.41, 0.39], [0.9, 0.6, 0.5, 0.41]], np.float32)
    near = Candidates(scores, np.tile(np.arange(4), (2, 1)), scores[:, -1], np.full((2, 1), 0.1), 0.0)
    possible, complete = near.possible(2)
    assert possible.tolist() == [[True, True, True, False], [True] * 4]
    assert complete.tolist() == [True, False]
    possible, complete = near.possible(1)
    assert possible.tolist() == [[True, False, False, False]] * 2
    assert complete.tolist() == [True, True]


def test_the_error_grows_with_the_score() -> None:
    scores = np.array([[1.0, 0.82, 0.81]], np.float32)
    near = Candidates(scores, np.array([[5, 6, 7]]), scores[:, -1], np.zeros((1, 1)), 0.1)
    possible, complete = near.possible(1)  # 0.9 is reached by 0.82 and not by 0.81
    assert possible.tolist() == [[True, True, False]] and complete.tolist() == [True]


def test_what_was_left_behind_may_be_better_than_the_last_candidate() -> None:
    """By its bias: found rows do not tell, what is known of missing ones does."""
    scores, rows = np.array([[0.9, 0.1], [0.9, 0.1]], np.float32), np.array([[5, 6], [5, 6]])
    near = Candidates(scores, rows, np.array([0.85, 0.6], np.float32), np.full((2, 1), 0.1), 0.0)
    _, complete = near.possible(1)
    assert complete.tolist() == [False, True]


def test_pads_are_never_possible() -> None:
    scores = np.array([[0.5, -np.inf]], np.float32)
    near = Candidates(scores, np.array([[3, -1]]), scores[:, -1], np.full((1, 1), 0.1), 0.1)
    possible, complete = near.possible(1)
    assert possible.tolist() == [[True, False]] and complete.tolist() == [True]


@pytest.mark.parametrize(("q", "taken"), [(1, "scan"), (4, "scan"), (5, "multiply")])
def test_a_few_queries_scan_and_many_multiply(
    q: int, taken: str, halves: np.ndarray, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []
    monkeypatch.setattr(room, taken, lambda *arguments: called.append(arguments))
    candidates(rows_of(halves), queries[:q], 5)
    assert len(called) == 1


def test_scanning_in_threads_finds_the_same(halves: np.ndarray, queries: np.ndarray) -> None:
    alone = scan(rows_of(halves), queries, 20)
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(4)
    try:
        together = scan(rows_of(halves), queries, 20)
    finally:
        faiss.omp_set_num_threads(before)
    np.testing.assert_array_equal(together.rows, alone.rows)
    np.testing.assert_array_equal(together.scores, alone.scores)


@pytest.mark.parametrize(
    ("checks", "dtype"),
    [
        ({"_is_avx512_bf16_supported": True}, torch.bfloat16),
        ({"_is_amx_tile_supported": True}, torch.bfloat16),
        ({}, torch.float32),
    ],
)
def test_the_precision_follows_the_processor(
    checks: dict[str, bool], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name in checks, raising=False)
    assert room._fast_dtype() == dtype


def test_comparing_puts_rows_of_each_querys_own_in_order() -> None:
    """Rows of the plane, with cosines that float16 holds exactly; -1 pads."""
    stored = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float16)
    queries = np.array([[1, 0], [0, 1]], np.float32)
    numbers = np.array([[2, 1, 0, -1], [-1, -1, 3, 1]])
    found = compare(Rows(stored, 4, 2, None), queries, numbers)
    assert found.rows.tolist() == [[0, 1, 2, -1], [1, 3, -1, -1]]
    assert found.scores.tolist() == [[1, 0, -1, -np.inf], [1, -1, -np.inf, -np.inf]]


def test_comparing_errs_by_no_more_than_it_says(unit_vectors: Any) -> None:
    halves = unit_vectors(500, 64, seed=6).astype(np.float16)
    queries = unit_vectors(70, 64, seed=7)  # more than are compared at once
    numbers = np.random.default_rng(0).permuted(np.tile(np.arange(500), (70, 1)), axis=1)[:, :40]
    found = compare(Rows(halves, 500, 64, None), queries, numbers)
    assert (np.sort(found.rows, axis=1) == np.sort(numbers, axis=1)).all()
    exact = halves.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    true = np.einsum("qd,qwd->qw", queries.astype(np.float64), exact[found.rows])
    assert (np.abs(true - found.scores) <= found.fixed + found.share * np.abs(found.scores)).all()
    assert (np.diff(found.scores, axis=1) <= 0).all()


def test_rows_are_gathered_as_they_are_asked_for(tmp_path: Path) -> None:
    """From an array, a mapped file, and what can only be sliced; into room that is there, and new."""
    stored = np.arange(24, dtype=np.float16).reshape(6, 4)
    np.save(tmp_path / "rows.npy", stored)

    class Sliced:
        def __getitem__(self, rows: slice) -> np.ndarray:
            return stored[rows]

    for vectors in (stored, np.load(tmp_path / "rows.npy", mmap_mode="r"), Sliced()):
        rows, numbers = Rows(vectors, 6, 4, None), np.array([5, 0, 0, 3])
        room = np.zeros((4, 4), np.float16)
        assert rows.gather(numbers, room) is room
        for found in (room, rows.gather(numbers)):
            assert (found.dtype, found.tolist()) == (np.float16, stored[numbers].tolist())
