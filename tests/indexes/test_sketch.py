from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.vectors_with_gap import vectors_with_gap
from indexes import sketch as room
from indexes.errors import VectorError
from indexes.sketch import Sketch, sketch_of

DIM = 96


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "BLOCK_ROWS", 128)
    monkeypatch.setattr(room, "_AT_ONCE", 50)
    monkeypatch.setattr(room, "_SAMPLED", 512)


@pytest.fixture(scope="module")
def made() -> Any:
    return vectors_with_gap(1500, 40, DIM, rank=12, clusters=20, seed=3)


@pytest.fixture(scope="module")
def halves(made: Any) -> np.ndarray:
    return made.documents.astype(np.float16)


def cosines(halves: np.ndarray, query: np.ndarray) -> np.ndarray:
    exact = halves.astype(np.float64)
    return exact / np.linalg.norm(exact, axis=1, keepdims=True) @ query.astype(np.float64)


def at_most(sketch: Sketch, query: np.ndarray) -> np.ndarray:
    """What each row may score at most, by its bytes. (n,) float64"""
    asked = sketch.asked(query)
    assert (asked.weights == np.rint(asked.weights)).all() and np.abs(asked.weights).max() <= 127
    blocks = np.arange(sketch.n) // room.BLOCK_ROWS
    bytes_less = sketch.codes.astype(np.float64) - 128
    return asked.added[blocks] + asked.unit * np.einsum("nw,nw->n", bytes_less, asked.weights[blocks])


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


ROWS = {
    "clustered": lambda random: unit(random.standard_normal((8, DIM))[random.integers(0, 8, 700)]
                                     + 0.1 * random.standard_normal((700, DIM))),
    "everywhere": lambda random: unit(random.standard_normal((700, DIM))),
    "all equal": lambda random: np.repeat(unit(random.standard_normal((1, DIM))), 700, axis=0),
    "along the axes": lambda random: np.eye(DIM, dtype=np.float32)[random.integers(0, DIM, 700)],
    "in a plane": lambda random: np.pad(unit(random.standard_normal((700, 2))), ((0, 0), (0, DIM - 2))),
    "one unlike all others": lambda random: np.concatenate(
        [unit(1 + 0.001 * random.standard_normal((699, DIM))), -unit(np.ones((1, DIM)))]
    ),
}  # fmt: skip


@pytest.mark.parametrize("width", [2, 16, 64, DIM])
@pytest.mark.parametrize("kind", ROWS)
def test_no_row_scores_more_than_its_sketch_says(kind: str, width: int) -> None:
    """Queries from everywhere, equal to rows, opposite to them, and along what the sketch leaves out."""
    random = np.random.default_rng(7)
    rows = ROWS[kind](random)
    halves = rows.astype(np.float16)
    sample = room.unit_doubles_of(halves, 0, 700)[::2]
    mean, basis = room._turned(sample)
    kept = basis[:, : width - 1]
    sketch = room._empty(mean, kept, (sample - mean) @ kept, 700).extended(halves)
    assert sketch.codes.shape == (700, width) and sketch.codes.dtype == np.uint8
    queries = np.concatenate([unit(random.standard_normal((20, DIM))), rows[:5], -rows[-5:], basis.T[-5:], basis.T[:3]])
    for query in unit(queries):
        true, most = cosines(halves, query), at_most(sketch, query)
        assert (true <= most).all()
        assert (most <= 3).all()  # and it says something


def test_more_bytes_say_more(made: Any, halves: np.ndarray) -> None:
    sample = room.unit_doubles_of(halves, 0, 512)
    mean, basis = room._turned(sample)
    inside = (sample - mean) @ basis
    over = []
    for width in (8, 32, DIM):
        sketch = room._empty(mean, basis[:, : width - 1], inside[:, : width - 1], 1500).extended(halves)
        over.append(np.mean([at_most(sketch, query) - cosines(halves, query) for query in made.queries]))
    assert over[0] > 2 * over[1] > 0 and over[1] > over[2] > 0
    assert over[2] < 0.05


def test_the_last_byte_is_at_least_the_length_of_the_rest(halves: np.ndarray) -> None:
    sketch = sketch_of(halves)
    assert sketch is not None
    exact = room.unit_doubles_of(halves, 0, 1500) - sketch.mean
    rest = np.linalg.norm(exact - exact @ sketch.basis @ sketch.basis.T, axis=1)
    said = sketch.codes[:, -1] * sketch.errors[np.arange(1500) // 128, 1]
    assert (rest <= said).all() and (said <= rest + sketch.errors[:, 1].max() + 1e-5).all()


def test_the_width_follows_what_the_queries_leave_in_question(unit_vectors: Any) -> None:
    """Rows of 12 dimensions that matter, in 256; queries along them, and across them."""
    made = vectors_with_gap(3000, 60, 256, rank=12, clusters=20, noise=0.02, seed=4)
    halves = made.documents.astype(np.float16)
    narrow = sketch_of(halves, made.queries)
    assert narrow is not None and narrow.width == 64
    wide = sketch_of(unit_vectors(3000, 256, seed=5).astype(np.float16), unit_vectors(30, 256, seed=6))
    assert wide is None or wide.width > 128


@pytest.mark.parametrize(("n", "rank"), [(5, 5), (500, 10), (1500, 3), (6000, 1)])
def test_the_sample_is_asked_for_as_few_as_are_wanted_of_all_rows(
    n: int, rank: int, halves: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tenth best of 1500 rows is about the third of the 512 among them."""
    whole, ranks = room._price, []
    monkeypatch.setattr(room, "_price", lambda *given: ranks.append(given[-1]) or whole(*given))
    sketch_of(np.resize(halves, (n, DIM)))
    assert set(ranks) == {rank}


def test_copies_of_one_row_are_worth_no_sketch(halves: np.ndarray) -> None:
    assert sketch_of(np.repeat(halves[:1], 1000, axis=0)) is None


def test_a_sketch_grows_as_if_made_at_once(halves: np.ndarray) -> None:
    """200 rows are a block and a part of one, which is made anew."""
    whole = sketch_of(halves)
    assert whole is not None and whole.made_of == 1500
    empty = room._empty(whole.mean, whole.basis, np.zeros((1, whole.width - 1)), 1500)
    start = Sketch(whole.mean, whole.basis, whole.middle, whole.step, empty.errors, empty.codes, 1500)
    grown = start.extended(halves[:200]).extended(halves[:1100]).extended(halves)
    np.testing.assert_array_equal(grown.codes, whole.codes)
    np.testing.assert_array_equal(grown.errors, whole.errors)
    assert (grown.n, grown.dim, grown.width) == (1500, DIM, whole.width)


@pytest.mark.parametrize("value", [np.nan, 2.0])
def test_rows_off_unit_length_are_refused(value: float, halves: np.ndarray) -> None:
    spoilt = halves.copy()
    spoilt[1234, 3] = value
    with pytest.raises(VectorError, match="vectors row 1234 has"):
        sketch_of(spoilt)
