from __future__ import annotations

import threading

import numpy as np
import pytest

from indexes.matches import no_matches
from indexes.scanner import BYTES, scan_above, scan_block, scan_each, scanner, selecting


@pytest.mark.parametrize("dim", [5, 24, 64, 128, 1024])
@pytest.mark.parametrize("extreme", [False, True])
def test_bytes_are_multiplied_without_rounding(dim: int, extreme: bool) -> None:
    """Whole numbers, those at the ends among them, whose sums have to stay whole."""
    random = np.random.default_rng(dim)
    if extreme:
        codes, query = random.choice([0, 255], (100, dim)), random.choice([-127, 127], dim)
    else:
        codes, query = random.integers(0, 256, (100, dim)), random.integers(-127, 128, dim)
    (heap,), (rows,) = no_matches(1, 100)
    with scanner(dim, codes=BYTES) as reader:
        scan_block(reader, query.astype(np.float32), codes.astype(np.uint8), heap, rows, 300, 2.0)
    assert sorted(rows.tolist()) == list(range(300, 400))
    assert heap.tolist() == ((codes - 128) @ query + 2)[rows - 300].tolist()


def test_a_heap_takes_only_what_is_above_its_lowest() -> None:
    codes = np.arange(128, 138, dtype=np.uint8)[:, None]  # 0 to 9
    (heap,), (rows,) = no_matches(1, 4)
    heap[:] = 7
    with scanner(1, codes=BYTES) as reader:
        scan_block(reader, np.ones(1, np.float32), codes, heap, rows)
    assert sorted(zip(heap.tolist(), rows.tolist())) == [(7, -1), (7, -1), (8, 8), (9, 9)]


def test_rows_that_do_not_count_are_passed_over() -> None:
    """By their numbers: of the rows 7 to 16."""
    codes = np.arange(128, 138, dtype=np.uint8)[:, None]
    (heap,), (rows,) = no_matches(1, 3)
    with scanner(1, selecting(np.arange(17) % 4 == 0), BYTES) as reader:
        scan_block(reader, np.ones(1, np.float32), codes, heap, rows, 7)
    assert sorted(rows.tolist()) == [8, 12, 16]
    assert selecting(None) is None


def test_all_above_a_score_are_found_with_what_is_added() -> None:
    """Scores 5 to 14 of the rows 7 to 16, of which every other counts; what scores as much is not above it.

    A second block has a query and something added of its own: 100 and 102 for the rows 20 and 21.
    """
    codes, one = np.arange(128, 138, dtype=np.uint8)[:, None], np.ones(1, np.float32)
    blocks = [(one, codes, 7, 5.0), (2 * one, codes[:2], 20, 100.0)]
    with scanner(1, selecting(np.arange(22) % 2 == 0), BYTES) as reader:
        scores, rows = scan_above(reader, blocks[:1], 7.0)
        none = scan_above(reader, blocks[:1], 14.0)
        both = scan_above(reader, blocks, 7.0)
    with scanner(1, codes=BYTES, places=True) as reader:
        all_count = scan_above(reader, [*blocks, (one, codes[:1], 40, 9.0)], 12.0)
    assert [part.tolist() for part in all_count] == [[13, 14, 100, 102], [15, 16, 20, 21]]
    assert dict(zip(rows.tolist(), scores.tolist())) == {10: 8, 12: 10, 14: 12, 16: 14}
    assert dict(zip(both[1].tolist(), both[0].tolist())) == {10: 8, 12: 10, 14: 12, 16: 14, 20: 100}
    assert [len(part) for part in none] == [0, 0]
    assert (scores.dtype, rows.dtype, none[0].dtype, none[1].dtype) == (np.float32, np.int64, np.float32, np.int64)


def test_more_than_so_many_are_no_answer() -> None:
    codes, one = np.arange(128, 138, dtype=np.uint8)[:, None], np.ones(1, np.float32)
    later = ((one, codes, start, 0.0) for start in (0, 10, 20))
    with scanner(1, codes=BYTES) as reader:
        assert scan_above(reader, later, 4.0, at_most=9) is None
        assert next(later)[2] == 20  # was not read
        found = scan_above(reader, [(one, codes, 0, 0.0)], 4.0, at_most=5)
    assert sorted(found[1].tolist()) == [5, 6, 7, 8, 9]


def test_a_thread_keeps_its_scanners_and_has_them_to_itself() -> None:
    def made() -> list[int]:
        with scanner(8) as one, scanner(8, codes=BYTES) as other, scanner(8, selecting(np.ones(3, bool))) as third:
            return [int(each.this) for each in (one, other, third)]

    here, there = made(), []
    thread = threading.Thread(target=lambda: there.extend(made()))
    with scanner(8) as held:
        thread.start()
        thread.join()
    assert int(held.this) == here[0] and made()[:2] == here[:2]
    assert len({*here, *there[:2]}) == 5


def test_each_query_scans_a_block_of_its_own() -> None:
    random = np.random.default_rng(0)
    queries, blocks = random.standard_normal((6, 8)).astype(np.float32), random.standard_normal((3, 5, 8)).astype(np.float16)
    scores, rows = no_matches(3, 4)
    with scanner(8) as reader:
        scan_each(reader, queries[::2], blocks, scores, rows)  # lines need not follow each other
    exact = np.einsum("qd,qbd->qb", queries[::2].astype(np.float64), blocks.astype(np.float64))
    for line in range(3):
        assert set(rows[line].tolist()) == set(np.argsort(-exact[line])[:4].tolist())
    np.testing.assert_allclose(scores, np.take_along_axis(exact, rows, axis=1), atol=1e-5)
