from __future__ import annotations

import numpy as np

from indexes.rescoring import best_of, unit_doubles
from indexes.rows import Rows

# Four rows of the plane: east, north, and two between that float16 keeps apart.
STORED = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.6, 0.8]], np.float16)
ROWS = Rows(STORED, 4, 2, None)


def test_true_scores_decide_and_equal_ones_come_by_lower_row() -> None:
    queries = unit_doubles(np.array([[2.0, 0.0], [0.0, 3.0]]))
    found = best_of(ROWS, np.array([[3, 1, 2, 0], [0, 1, 2, 3]]), np.ones((2, 4), bool), queries, 3)
    assert found.rows.tolist() == [[0, 2, 3], [1, 2, 3]]
    # The stored row is (0.60009765625, 0.7998046875), and its cosines those of its direction.
    east, north = 0.60009765625 / np.hypot(0.60009765625, 0.7998046875), 0.7998046875
    np.testing.assert_allclose(found.scores[0], [1, east, east], atol=1e-7)
    np.testing.assert_allclose(found.scores[1, 0], 1, atol=1e-7)
    np.testing.assert_allclose(found.scores[1, 1:], north / np.hypot(0.60009765625, north), atol=1e-7)


def test_what_is_not_possible_is_no_result() -> None:
    possible = np.array([[False, True, True, False]])
    found = best_of(ROWS, np.array([[0, 1, 2, 3]]), possible, np.array([[1.0, 0.0]]), 3)
    assert found.rows.tolist() == [[2, 1, -1]]
    assert found.scores[0, 1:].tolist() == [0.0, -np.inf]


def test_nothing_is_possible() -> None:
    none = np.zeros((1, 4), bool)
    found = best_of(ROWS, np.array([[-1, -1, -1, -1]]), none, np.array([[1.0, 0.0]]), 2)
    assert found.rows.tolist() == [[-1, -1]]
