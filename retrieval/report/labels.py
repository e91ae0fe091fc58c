"""Labels of points in a chart: placed where they cover neither points nor each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CHARACTER = 6.4  # pixels: letters of wide fonts at 11 px
HEIGHT = 12.0
POINT = 5.0  # half the side of the square that a point takes
_NEAR, _FAR = 8.0, (20.0, 34.0, 48.0, 64.0, 80.0)

Place = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Label:
    """Text whose start, middle or end (SVG's text-anchor) is at x, its baseline at y.

    away  whether it needs a line to its point
    """

    text: str
    x: float
    y: float
    anchor: str
    away: bool

    @property
    def box(self) -> Box:
        width = CHARACTER * len(self.text)
        left = self.x - {"start": 0, "middle": width / 2, "end": width}[self.anchor]
        return left, self.y - HEIGHT + 2, left + width, self.y + 2


def place_labels(
    points: Sequence[Place],
    texts: Sequence[str],
    important: Sequence[int],
    area: Box,
    lines: Sequence[Sequence[Place]] = (),
) -> dict[int, Label]:
    """Return labels by position of their point, in pixels.

    important  positions of the points that choose first, and may be labelled from further away
    lines      corners of lines that labels keep clear of

    A point without free room beside it gets no label, so charts are never covered by their text.
    """
    taken = [_square(point, POINT) for point in points]
    taken += [_square(place, 1) for line in lines for place in _along(line)]
    placed: dict[int, Label] = {}
    for at in [*important, *(at for at in range(len(points)) if at not in set(important))]:
        for label in _candidates(*points[at], texts[at], far=at in important):
            if _inside(label.box, area) and not any(_overlap(label.box, other) for other in taken):
                placed[at] = label
                taken.append(label.box)
                break
    return placed


def _candidates(x: float, y: float, text: str, *, far: bool) -> Iterator[Label]:
    """Beside, above and below the point; then, if that may be, further and further away."""
    right, middle, left = (x + _NEAR, "start"), (x, "middle"), (x - _NEAR, "end")
    for (at, anchor), baseline in (
        (right, y + 4), (left, y + 4), (middle, y - _NEAR), (middle, y + _NEAR + 9),
        (right, y - 6), (left, y - 6), (right, y + 14), (left, y + 14),
    ):
        yield Label(text, at, baseline, anchor, away=False)
    for distance in _FAR if far else ():
        for at, anchor in (right, left, middle):
            yield Label(text, at, y + distance + 4, anchor, away=True)
            yield Label(text, at, y - distance + 4, anchor, away=True)


def _along(line: Sequence[Place]) -> Iterator[Place]:
    """Places on a line, close enough together that no label fits between them."""
    for (x, y), (to_x, to_y) in zip(line, line[1:]):
        steps = math.ceil(math.hypot(to_x - x, to_y - y) / (HEIGHT / 2))
        for step in range(1, steps):
            yield x + (to_x - x) * step / steps, y + (to_y - y) * step / steps


def _square(place: Place, half: float) -> Box:
    return place[0] - half, place[1] - half, place[0] + half, place[1] + half


def _inside(box: Box, area: Box) -> bool:
    return area[0] <= box[0] and area[1] <= box[1] and box[2] <= area[2] and box[3] <= area[3]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
