"""A scatter of connected points as SVG: logarithmic x, linear y, a legend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 540, 44, 384  # of the frame; the legend stands to its right
# Told apart in print and by most eyes (the Okabe-Ito colours); a dash sets the second round apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")

Points = Sequence[tuple[float, float]]


class Axes:
    """From values to pixels. x spans whole decades, y from the tenth below the least value to 1."""

    def __init__(self, series: Mapping[str, Points]):
        xs = [x for points in series.values() for x, _ in points]
        ys = [y for points in series.values() for _, y in points]
        self.first = math.floor(math.log10(min(xs)))
        self.last = max(self.first + 1, math.ceil(math.log10(max(xs))))
        self.lowest = min(0.9, math.floor(10 * min(ys)) / 10)
        self.highest = max(1.0, max(ys))

    def x(self, value: float) -> float:
        share = (math.log10(value) - self.first) / (self.last - self.first)
        return LEFT + share * (RIGHT - LEFT)

    def y(self, value: float) -> float:
        share = (value - self.lowest) / (self.highest - self.lowest)
        return BOTTOM - share * (BOTTOM - TOP)


def svg(title: str, x_label: str, y_label: str, series: Mapping[str, Points]) -> str:
    """Draw each series as a line through its points, from left to right.

    series  {name: [(x > 0, y in 0..1)]}, not empty

    Returns the text of the file, the same for the same points.
    """
    axes = Axes(series)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        _text(LEFT, 24, title, size=15),
        *_grid(axes),
        _text((LEFT + RIGHT) / 2, HEIGHT - 12, x_label, anchor="middle"),
        f'<text transform="translate(16 {(TOP + BOTTOM) / 2:g}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>',
    ]
    for number, (name, points) in enumerate(series.items()):
        parts += _series(axes, number, name, sorted(points))
    return "\n".join([*parts, "</svg>", ""])


def _grid(axes: Axes) -> list[str]:
    parts = []
    for decade in range(axes.first, axes.last + 1):
        x = axes.x(10**decade)
        parts.append(_line(x, TOP, x, BOTTOM, "#ddd"))
        parts.append(_text(x, BOTTOM + 18, f"{10.0**decade:,.10g}", anchor="middle"))
    steps = round(10 * (axes.highest - axes.lowest))
    for step in range(steps + 1):
        value = axes.lowest + step / 10
        y = axes.y(value)
        parts.append(_line(LEFT, y, RIGHT, y, "#ddd"))
        parts.append(_text(LEFT - 8, y + 4, f"{value:.1f}", anchor="end"))
    parts.append(_line(LEFT, BOTTOM, RIGHT, BOTTOM, "#222"))
    parts.append(_line(LEFT, TOP, LEFT, BOTTOM, "#222"))
    return parts


def _series(axes: Axes, number: int, name: str, points: Points) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    dash = ' stroke-dasharray="5 3"' if number >= len(COLOURS) else ""
    placed = [(axes.x(x), axes.y(y)) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    legend = TOP + 8 + 20 * number
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>',
        *(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}">'
            f"<title>{escape(name)}: {value_x:.4g}, {value_y:.4g}</title></circle>"
            for (x, y), (value_x, value_y) in zip(placed, points)
        ),
        f'<line x1="{RIGHT + 16}" y1="{legend}" x2="{RIGHT + 40}" y2="{legend}" '
        f'stroke="{colour}" stroke-width="3"{dash}/>',
        _text(RIGHT + 48, legend + 4, name),
    ]


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(text)}</text>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'
