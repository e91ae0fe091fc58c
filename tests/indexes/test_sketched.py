"""A FlatIndex with a sketch finds what one without finds, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
import pytest

from benchmarks.vectors_with_gap import vectors_with_gap
from indexes import flat, sketch_file, sketched
from indexes import sketch as sketch_room
from indexes.flat import FlatIndex
from indexes.matches import Matches
from indexes.sketch import Sketch, sketch_of

N, DIM = 6000, 80



@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sketch_room, sketched, sketch_file):
        monkeypatch.setattr(module, "BLOCK_ROWS", 512)
    monkeypatch.setattr(sketch_room, "_AT_LEAST", 1000)
    monkeypatch.setattr(sketch_room, "_SAMPLED", 1024)
    monkeypatch.setattr(sketched, "_PROBED", 100)
    monkeypatch.setattr(sketched, "_TOGETHER", 50)
    monkeypatch.setattr(sketched, "_SWEPT", 1000)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each query that asked the sketch, whether that told all."""
    told: list[bool] = []
    whole = sketched.reached

    def reached(*arguments: Any) -> Any:
        found = whole(*arguments)
        told.append(found is not None)
        return found

    monkeypatch.setattr(flat, "reached", reached)
    return told


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def made_sketch(halves: np.ndarray, width: int = 24) -> Sketch:
    """Of this width, whether it pays or not."""
    sample = sketch_room.unit_doubles_of(halves, 0, len(halves))[::3]
    mean, basis = sketch_room._turned(sample)
    kept = basis[:, : width - 1]
    return sketch_room._empty(mean, kept, (sample - mean) @ kept, len(halves)).extended(halves)


def assert_same(found: Matches, expected: Matches) -> None:
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)


def assert_changes_nothing(
    halves: np.ndarray, sketch: Sketch, queries: np.ndarray, k: int, live: Any = None, **how: Any
) -> None:
    plain, index = FlatIndex(halves, live), FlatIndex(halves, live, sketch)
    for query in queries:
        assert_same(index.search(query[None], k, **how), plain.search(query[None], k, **how))


@pytest.fixture(scope="module")
def made() -> Any:
    return vectors_with_gap(N, 60, DIM, rank=10, clusters=60, seed=8)


@pytest.fixture(scope="module")
def halves(made: Any) -> np.ndarray:
    return made.documents.astype(np.float16)


@pytest.fixture
def sketch(halves: np.ndarray) -> Sketch:
    return made_sketch(halves)


@pytest.mark.parametrize("k", [1, 10, 60])
def test_texts_and_images_find_the_same(
    k: int, halves: np.ndarray, sketch: Sketch, made: Any, settled: list[bool]
) -> None:
    assert_changes_nothing(halves, sketch, np.concatenate([made.queries[:20], made.images[:20]]), k)
    assert np.mean(settled) > 0.8  # else this tested nothing


def test_little_is_read_of_the_rows(halves: np.ndarray, sketch: Sketch, made: Any) -> None:
    """Beside what the rescoring of the best reads."""
    taken = []

    class Counted:
        dtype, shape = halves.dtype, halves.shape

        def __getitem__(self, rows: slice) -> np.ndarray:
            raise AssertionError("the rows are not scanned")

        def take_halves(self, rows: np.ndarray, room: np.ndarray | None = None) -> np.ndarray:
            taken.append(len(rows))
            return np.take(halves, rows, axis=0, out=room)

    for query in made.queries[:10]:
        found = FlatIndex(Counted(), None, sketch).search(query[None], 5)
        assert_same(found, FlatIndex(halves).search(query[None], 5))
    assert 0 < sum(taken) / 10 < N / 10


def test_a_few_queries_at_once(halves: np.ndarray, sketch: Sketch, made: Any, settled: list[bool]) -> None:
    index, plain = FlatIndex(halves, None, sketch), FlatIndex(halves)
    assert_same(index.search(made.queries[:4], 7), plain.search(made.queries[:4], 7))
    assert len(settled) == 4
    assert_same(index.search(made.queries[:5], 7), plain.search(made.queries[:5], 7))
    assert len(settled) == 4  # more are multiplied


@pytest.mark.parametrize("threads", [2, 5, 40])
def test_threads_share_the_blocks(threads: int, halves: np.ndarray, sketch: Sketch, made: Any) -> None:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        assert_changes_nothing(halves, sketch, made.queries[:5], 10)
    finally:
        faiss.omp_set_num_threads(before)


ROWS = {
    "everywhere": lambda random: random.standard_normal((N, DIM)),
    "all equal": lambda random: np.repeat(random.standard_normal((1, DIM)), N, axis=0),
    "along the axes": lambda random: np.eye(DIM)[random.integers(0, DIM, N)],
    "with no variance in most dimensions": lambda random: np.pad(
        random.standard_normal((N, 12)), ((0, 0), (0, DIM - 12))),
    "hundreds of copies": lambda random: random.standard_normal((15, DIM))[random.integers(0, 15, N)],
    "hundreds of near copies": lambda random: (
        random.standard_normal((15, DIM))[random.integers(0, 15, N)] + 1e-3 * random.standard_normal((N, DIM))),
    "nearly all the same": lambda random: 1 + 1e-4 * random.standard_normal((N, DIM)),
}  # fmt: skip


@pytest.mark.parametrize("width", [8, DIM])
@pytest.mark.parametrize("kind", ROWS)
def test_rows_of_any_kind(kind: str, width: int) -> None:
    """Queries from anywhere, equal to rows, and opposite to one."""
    random = np.random.default_rng(9)
    rows = unit(ROWS[kind](random))
    queries = np.concatenate([unit(random.standard_normal((3, DIM))), rows[100:102], -rows[-1:]])
    halves = rows.astype(np.float16)
    assert_changes_nothing(halves, made_sketch(halves, width), queries, 12)


@pytest.mark.parametrize("copies", [3, 70, 300])
def test_ties_come_by_lower_row(copies: int, settled: list[bool]) -> None:
    """Each row so many times, all over; 70 are more than there are candidates to spare."""
    random = np.random.default_rng(10)
    halves = unit(random.standard_normal((N // copies, DIM))).astype(np.float16)[np.arange(N) % (N // copies)]
    queries = unit(halves[:4].astype(np.float32))
    index = FlatIndex(halves, None, made_sketch(halves, 64))
    for number, query in enumerate(queries):
        scores, rows = index.search(query[None], copies)
        assert rows[0].tolist() == list(range(number, N, N // copies))[:copies]
        assert (scores == scores[0, 0]).all()
    assert all(settled) or copies == 300  # of which that is too large a k


@pytest.mark.parametrize("share", [0.9, 0.5, 0.3, 0.05])
@pytest.mark.parametrize("biased", [False, True])
def test_rows_that_do_not_count_and_a_bias(
    share: float, biased: bool, halves: np.ndarray, sketch: Sketch, made: Any, settled: list[bool]
) -> None:
    random = np.random.default_rng(11)
    live, allowed = np.flatnonzero(random.random(N) < 0.95), random.random(N) < share
    how = {"bias": (0.2 + 0.03 * random.standard_normal(N)).astype(np.float32)} if biased else {}
    queries = made.queries[:12]
    assert_changes_nothing(halves, sketch, queries, 10, live, allowed=allowed, **how)
    assert np.mean(settled) >= 0.5 if share > 0.2 else not any(settled)
    assert_changes_nothing(halves, sketch, queries, 10, live, **how)
    assert_changes_nothing(halves, sketch, queries, 10, **how)


@pytest.mark.parametrize("spread", [1e-7, 0.5, 100.0])
def test_a_bias_of_any_size(spread: float, halves: np.ndarray, sketch: Sketch, made: Any) -> None:
    bias = (spread * np.random.default_rng(12).standard_normal(N)).astype(np.float32)
    assert_changes_nothing(halves, sketch, made.queries[:6], 10, bias=bias)


@pytest.mark.parametrize("held", [1500, 5000, 5999])
def test_rows_behind_the_sketch(
    held: int, halves: np.ndarray, made: Any, settled: list[bool], biased: bool = True
) -> None:
    sketch = made_sketch(halves[:held])
    new = halves[held + 1 if held < 5999 else held :][:3].astype(np.float32)  # they are found
    queries = np.concatenate([made.queries[:10], unit(new)])
    assert_changes_nothing(halves, sketch, queries, 10)
    assert any(settled)
    live, bias = np.arange(0, N, 2), np.full(N, 0.1, np.float32)
    assert_changes_nothing(halves, sketch, queries, 10, live, bias=bias)


def test_a_sketch_of_more_rows_than_count_yet(
    halves: np.ndarray, sketch: Sketch, made: Any, settled: list[bool]
) -> None:
    """As a reader has it that opened the vectors before the last were committed."""
    assert_changes_nothing(halves[:4100], sketch, made.queries[:10], 10)
    assert any(settled)


@pytest.mark.parametrize("k", [95, 3000, N - 1, N, N + 5])
def test_k_near_n_is_left_to_the_rows(
    k: int, halves: np.ndarray, sketch: Sketch, made: Any, settled: list[bool]
) -> None:
    assert_changes_nothing(halves, sketch, made.queries[:2], k)
    assert settled == [False] * 2


def test_few_rows_are_read_themselves(halves: np.ndarray, made: Any, settled: list[bool]) -> None:
    assert_changes_nothing(halves[:999], made_sketch(halves[:999]), made.queries[:2], 3)
    assert settled == [False] * 2


def test_what_may_be_missing_is_looked_for_among_the_rows(
    halves: np.ndarray, sketch: Sketch, made: Any, settled: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sketched, "_ROOM", N)  # for one row
    assert_changes_nothing(halves, sketch, made.queries[:3], 10)
    assert settled == [False] * 3


def test_the_sketch_that_is_made_finds_the_same(halves: np.ndarray, made: Any, settled: list[bool]) -> None:
    """By texts, and by rows taken for queries."""
    for queries in (made.queries[30:], None):
        chosen = sketch_of(halves, queries)
        assert chosen is not None
        assert_changes_nothing(halves, chosen, made.queries[:10], 10)
    assert np.mean(settled) > 0.8


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done: probe, sweep, look."""
    done: list[str] = []

    def counted(name: str) -> None:
        whole = getattr(sketched._Search, name)

        def step(*arguments: Any) -> Any:
            done.append(name.strip("_"))
            return whole(*arguments)

        monkeypatch.setattr(sketched._Search, name, step)

    for name in ("_probe", "_sweep"):
        counted(name)
    return done


@pytest.mark.parametrize("biased", [False, True])
def test_what_was_seen_saves_the_probe(
    biased: bool, halves: np.ndarray, sketch: Sketch, made: Any, steps: list[str], settled: list[bool]
) -> None:
    """After eight searches of the kind; another k, or rows that are allowed, are of another kind."""
    how = {"bias": (0.2 + 0.03 * np.random.default_rng(11).standard_normal(N)).astype(np.float32)} if biased else {}
    plain, index = FlatIndex(halves), FlatIndex(halves, None, sketch)
    for query in made.queries[:8]:
        assert_same(index.search(query[None], 10, **how), plain.search(query[None], 10, **how))
    assert steps == ["probe", "sweep"] * 8
    steps.clear()
    for query in made.queries[8:50]:
        assert_same(index.search(query[None], 10, **how), plain.search(query[None], 10, **how))
    assert steps.count("probe") < 4 and 42 <= steps.count("sweep") < 55
    steps.clear()
    index.search(made.queries[:1], 3, **how)
    index.search(made.queries[:1], 10, allowed=np.arange(N) % 7 > 0, **how)
    assert steps == ["probe", "sweep"] * 2
    assert all(settled)


@pytest.mark.parametrize(
    ("above", "expected"),
    [
        (0.01, ["sweep", "sweep"]),  # some rows reach it, fewer than k
        (5.0, ["sweep", "probe", "sweep"]),  # none does
        (-5.0, ["sweep", "probe", "sweep"]),  # too many do
        (np.nan, ["sweep", "probe", "sweep"]),
    ],
)
def test_a_guess_that_was_wrong_costs_a_sweep_and_no_result(
    above: float, expected: list[str], halves: np.ndarray, sketch: Sketch, made: Any, steps: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, index = FlatIndex(halves), FlatIndex(halves, None, sketch)
    for query in made.queries[:5]:
        found = plain.search(query[None], 10)
        tenth = float(found.scores[0, -1])
        monkeypatch.setattr(sketched.Reached, "guess", lambda *_: tenth + above)
        steps.clear()
        assert_same(index.search(query[None], 10), found)
        assert steps == expected
