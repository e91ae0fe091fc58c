"""Horizontal bars as SVG: one group of bars per language, and what an index keeps and loses."""

from __future__ import annotations

import math
from collections.abc import Mapping

from retrieval.bootstrap import Estimate
from retrieval.report.labels import CHARACTER
from retrieval.report.markup import Markup, element
from retrieval.report.numbers import percent
from retrieval.report.scatter import series_class

WIDTH = 580
_BAR, _GAP, _TOP = 15.0, 12.0, 4.0
_NUMBERS = 56.0  # room for the number behind a bar of 100 percent
_MOST_CHARACTERS = 24


def bars_svg(groups: Mapping[str, Mapping[str, Estimate]], *, title: str, description: str) -> Markup:
    """Fractions as bars from 0 to 100 percent, their intervals as thin lines.

    groups  heading -> name -> estimate; a name has the same colour everywhere, in order of appearance
    """
    numbers: dict[str, int] = {}
    for group in groups.values():
        for name in group:
            numbers.setdefault(name, len(numbers))
    longest = min(_MOST_CHARACTERS, max((len(heading) for heading in groups), default=0))
    left = 14 + CHARACTER * 1.1 * longest
    scale = WIDTH - left - _NUMBERS
    drawn, y = [], _TOP
    for heading, group in groups.items():
        middle = y + _BAR * len(group) / 2 + 4
        drawn.append(element("text", heading, x=left - 8, y=middle, text_anchor="end"))
        for name, estimate in group.items():
            drawn.append(_bar(name, heading, numbers[name], estimate, left, y, scale))
            y += _BAR
        y += _GAP
    foot = y - _GAP + 4
    axis = [
        (element("line", x1=x, x2=x, y1=0, y2=foot),
         element("text", f"{mark} %", x=x, y=foot + 14, text_anchor="middle"))
        for mark in (0, 25, 50, 75, 100) for x in [left + scale * mark / 100]
    ]
    return element(
        "svg", element("title", title), element("desc", description),
        element("g", axis, class_="grid"), drawn,
        viewBox=f"0 0 {WIDTH} {foot + 20:.0f}", role="img", class_="chart",
    )


def _bar(name: str, heading: str, number: int, estimate: Estimate, left: float, y: float, scale: float) -> Markup:
    if math.isnan(estimate.value):
        return Markup()
    low, high = left + scale * estimate.low, left + scale * estimate.high
    middle = y + _BAR / 2
    return element(
        "g",
        element("title", f"{heading} {name}: {percent(estimate.value)} %"),
        element("rect", x=left, y=y + 1, width=scale * estimate.value, height=_BAR - 2, rx=2),
        element("line", x1=low, x2=high, y1=middle, y2=middle, class_="interval"),
        element("text", percent(estimate.value), x=max(high, left + scale * estimate.value) + 6, y=middle + 4),
        class_=series_class(number),
    )


def loss_bar(exact: float, codes: float, found: float) -> Markup:
    """One bar as wide as exact search is good: what is found, what the search loses, what the codes lose.

    A loss below 0, which chance can bring, is drawn as none.
    """
    whole = max(exact, codes, found)
    if not whole > 0:  # nothing to divide, or nan
        return Markup()
    kept = min(100.0, 100 * found / whole)
    searched = max(kept, min(100.0, 100 * codes / whole))
    lost = max(searched, 100 * exact / whole)
    parts = (("kept", 0.0, kept), ("search-loss", kept, searched), ("code-loss", searched, lost))
    return element(
        "svg",
        [element("rect", x=start, y=0, width=end - start, height=6, class_=name)
         for name, start, end in parts if end > start],
        viewBox="0 0 100 6", preserveAspectRatio="none", class_="loss", aria_hidden="true",
    )
