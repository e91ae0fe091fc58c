from math import nan

import numpy as np
import pytest

from retrieval.report.pareto import pareto_front


@pytest.mark.parametrize(("points", "front"), [
    ([], []),
    ([(5, 1)], [0]),
    ([(1, 10), (2, 20), (3, 30)], [0, 1, 2]),
    ([(3, 30), (1, 10), (2, 20)], [1, 2, 0]),  # by ascending cost
    ([(1, 10), (2, 9), (3, 11)], [0, 2]),  # the second costs more and is worse
    ([(1, 10), (2, 10)], [0]),  # equally good for more
    ([(1, 10), (1, 12)], [1]),  # better for the same
    ([(1, 10), (1, 10), (2, 20)], [0, 1, 2]),  # equal points do not beat each other
    ([(2, 20), (1, 30)], [1]),
    ([(1, nan), (nan, 99), (2, 5)], [2]),
])
def test_by_hand(points, front):
    assert pareto_front(points) == front


def test_against_the_definition():
    points = np.random.default_rng(0).integers(0, 12, (200, 2)).tolist()

    def beaten(point):
        return any(a <= point[0] and b >= point[1] and [a, b] != point for a, b in points)

    front = pareto_front(points)
    assert sorted(front) == [at for at, point in enumerate(points) if not beaten(point)]
    assert [points[at][0] for at in front] == sorted(points[at][0] for at in front)
