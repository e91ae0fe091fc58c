"""Which choices are worth their cost."""

from __future__ import annotations

import math
from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Positions of the points (cost, quality) that no other point beats, by ascending cost.

    A point beats another if it costs no more and is no worse, and is better in one of the two. Equal
    points do not beat each other: all of them are on the front. Points with nan are never on it.
    """
    known = [at for at, point in enumerate(points) if not any(map(math.isnan, point))]
    front: list[int] = []
    for at in sorted(known, key=lambda at: (points[at][0], -points[at][1])):
        if not front or points[at][1] > points[front[-1]][1] or tuple(points[at]) == tuple(points[front[-1]]):
            front.append(at)
    return front
