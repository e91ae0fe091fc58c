"""Quality against cost as an SVG chart, with the Pareto front of each series."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retrieval.report.axes import Axis, tick_label
from retrieval.report.labels import CHARACTER, Label, place_labels
from retrieval.report.markup import Markup, element
from retrieval.report.pareto import pareto_front

WIDTH, HEIGHT = 580, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 44
_LEGEND_LINE = 18
SERIES = 6  # colours and shapes that style.css and _SHAPES know; more series begin again
_SHAPES = (
    "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z",  # circle
    "M-4-4h8v8h-8z",
    "M0-5.6L5.6 0L0 5.6L-5.6 0z",
    "M0-5.4L5.2 4.2H-5.2z",
    "M0 5.4L5.2-4.2H-5.2z",
    "M-1.7-5h3.4v3.3H5v3.4H1.7V5h-3.4V1.7H-5v-3.4h3.3z",  # plus
)


@dataclass(frozen=True)
class Point:
    """One choice: what it costs, how good it is, and its name."""

    cost: float
    quality: float
    label: str


def scatter_svg(
    series: Mapping[str, Sequence[Point]],
    *,
    title: str,
    description: str,
    cost_label: str,
    quality_label: str,
) -> Markup:
    """A chart of `series`, name -> points: colours and shapes tell series apart. Cost is logarithmic.

    Points that no other of their series beats are filled and joined by a line. Points with nan are
    left out. Labels stand where there is room; the name of every point is in its tooltip.

    Raises ValueError if no point is left, or a cost is not above 0.
    """
    known = {
        name: [one for one in points if math.isfinite(one.cost) and math.isfinite(one.quality)]
        for name, points in series.items()
    }
    everything = [point for points in known.values() for point in points]
    if not everything:
        raise ValueError("there are no points to draw")
    costs = Axis.around([one.cost for one in everything], _LEFT, WIDTH - _RIGHT, log=True)
    qualities = Axis.around([one.quality for one in everything], HEIGHT - _BOTTOM, _TOP)
    fronts = [pareto_front([(one.cost, one.quality) for one in points]) for points in known.values()]
    legend, lines = _legend(list(known))
    height = HEIGHT + _LEGEND_LINE * lines
    return element(
        "svg",
        element("title", title), element("desc", description),
        _grid(costs, qualities, cost_label, quality_label),
        [_series(number, points, front, costs, qualities)
         for number, (points, front) in enumerate(zip(known.values(), fronts))],
        _labels(list(known.values()), fronts, costs, qualities),
        legend,
        viewBox=f"0 0 {WIDTH} {height}", role="img", class_="chart",
    )


def marker(number: int, x: float, y: float, *, filled: bool = True) -> Markup:
    """The sign of a series."""
    shape = _SHAPES[number % SERIES]
    return element("path", d=shape, transform=f"translate({x:.1f} {y:.1f})", class_=None if filled else "hollow")


def series_class(number: int) -> str:
    return f"series-{number % SERIES}"


def _grid(costs: Axis, qualities: Axis, cost_label: str, quality_label: str) -> Markup:
    bottom, middle = qualities.start, (qualities.start + qualities.end) / 2
    vertical = [
        (element("line", x1=x, x2=x, y1=qualities.end, y2=bottom),
         element("text", tick_label(tick), x=x, y=bottom + 16, text_anchor="middle", class_="tick-x"))
        for tick in costs.ticks() for x in [costs.at(tick)]
    ]
    horizontal = [
        (element("line", x1=costs.start, x2=costs.end, y1=y, y2=y),
         element("text", tick_label(tick), x=costs.start - 7, y=y + 4, text_anchor="end", class_="tick-y"))
        for tick in qualities.ticks() for y in [qualities.at(tick)]
    ]
    return element(
        "g", vertical, horizontal,
        element("text", cost_label, x=(costs.start + costs.end) / 2, y=bottom + 35, text_anchor="middle"),
        element("text", quality_label, transform=f"translate(13 {middle:.1f}) rotate(-90)", text_anchor="middle"),
        class_="grid",
    )


def _series(number: int, points: Sequence[Point], front: list[int], costs: Axis, qualities: Axis) -> Markup:
    places = [(costs.at(one.cost), qualities.at(one.quality)) for one in points]
    line = " ".join(f"{places[at][0]:.1f},{places[at][1]:.1f}" for at in front)
    drawn = [
        element(
            "g",
            element("title", f"{point.label}: {tick_label(point.cost)}, {point.quality:.4g}"),
            marker(number, *place, filled=at in front),
            class_="point optimal" if at in front else "point",
        )
        for at, (point, place) in enumerate(zip(points, places))
    ]
    return element(
        "g", element("polyline", points=line, class_="front") if len(front) > 1 else None, drawn,
        class_=series_class(number),
    )


def _labels(
    series: Sequence[Sequence[Point]], fronts: Sequence[list[int]], costs: Axis, qualities: Axis
) -> Markup:
    places, texts, optimal, lines = [], [], [], []
    for points, front in zip(series, fronts):
        own = [(costs.at(one.cost), qualities.at(one.quality)) for one in points]
        optimal += [len(places) + at for at in front]
        lines.append([own[at] for at in front])
        places += own
        texts += [one.label for one in points]
    area = (costs.start + 2, qualities.end, costs.end, qualities.start - 2)
    placed = place_labels(places, texts, optimal, area, lines)
    return element("g", [_label(label, places[at]) for at, label in placed.items()], class_="labels")


def _label(label: Label, point: tuple[float, float]) -> list[Markup]:
    text = element("text", label.text, x=label.x, y=label.y, text_anchor=label.anchor)
    if not label.away:
        return [text]
    left, top, right, bottom = label.box
    x, y = min(max(point[0], left), right), bottom if bottom < point[1] else top
    return [element("line", x1=point[0], y1=point[1], x2=x, y2=y), text]


def _legend(names: Sequence[str]) -> tuple[Markup, int]:
    """The signs and names of the series below the chart, and how many lines they take."""
    entries, x, line = [], float(_LEFT), 1
    for number, name in enumerate(names):
        width = 36 + CHARACTER * len(name)
        if x > _LEFT and x + width > WIDTH:
            x, line = float(_LEFT), line + 1
        y = HEIGHT + _LEGEND_LINE * line - 9
        sign = marker(number, x + 6, y - 4)
        entries.append(element("g", sign, element("text", name, x=x + 16, y=y), class_=series_class(number)))
        x += width
    return element("g", entries, class_="legend"), line
