from __future__ import annotations

import numpy as np
import pytest

from indexes.errors import SpecError, VectorIndexError
from indexes.matches import checked_count, no_matches, ranked, too_short


def test_no_matches_is_all_pads() -> None:
    scores, rows = no_matches(2, 3)
    assert scores.dtype == np.float32 and rows.dtype == np.int64
    assert scores.tolist() == [[-np.inf] * 3] * 2
    assert rows.tolist() == [[-1] * 3] * 2


def test_ranked_sorts_by_score_then_row_and_pads_last() -> None:
    scores = np.array([[0.5, -np.inf, 0.9, 0.5], [-0.1, -0.2, -0.3, -0.1]], dtype=np.float32)
    rows = np.array([[7, -1, 4, 3], [9, 8, 2, 0]])
    matches = ranked(scores, rows, k=5)
    assert matches.rows.tolist() == [[4, 3, 7, -1, -1], [0, 9, 8, 2, -1]]
    expected = [[0.9, 0.5, 0.5, -np.inf, -np.inf], [-0.1, -0.1, -0.2, -0.3, -np.inf]]
    np.testing.assert_array_equal(matches.scores, np.array(expected, dtype=np.float32))


@pytest.mark.parametrize("value", [1, 7, np.int64(3)])
def test_checked_count_takes_whole_numbers(value: int) -> None:
    count = checked_count(value, "k")
    assert count == value and type(count) is int


@pytest.mark.parametrize("value", [0, -3, 1.5, "3", None, True])
def test_checked_count_refuses_everything_else(value: object) -> None:
    with pytest.raises(VectorIndexError, match="k must be a whole number of at least 1, got"):
        checked_count(value, "k")


def test_checked_count_raises_the_error_asked_for() -> None:
    with pytest.raises(SpecError, match="nprobe must be"):
        checked_count(0, "nprobe", SpecError)


def test_which_lines_are_too_short() -> None:
    rows = np.array([[3, 1, 2], [5, 0, -1], [4, -1, -1], [-1, -1, -1]])
    assert [too_short(rows, enough).tolist() for enough in (0, 1, 2, 3, 9)] == [
        [], [3], [2, 3], [1, 2, 3], [1, 2, 3],
    ]
