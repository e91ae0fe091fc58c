"""Tables of numbers: grouped rows, intervals in small type, the best of a group in bold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from retrieval.bootstrap import Estimate
from retrieval.report.markup import Markup, element
from retrieval.report.numbers import Show, best_shown

Group = tuple[object, Sequence[Any]]  # a heading, or None for rows that need none, and its rows


@dataclass(frozen=True)
class Column:
    """One column of numbers.

    value  of a row: a number, or an Estimate, whose interval is then shown below it
    best   max or min, where one row of a group can be better than another
    mark   what stands behind a row's number
    """

    heading: str
    value: Callable[[Any], Estimate | float]
    show: Show
    best: Callable[[Iterable[float]], float] | None = None
    mark: Callable[[Any], Markup | None] = lambda row: None


def table(
    caption: str, names: str, name_of: Callable[[Any], object], columns: Sequence[Column], groups: Sequence[Group]
) -> Markup:
    """A table that scrolls inside a box of its own; `names` heads the column that `name_of` fills."""
    heads = [element("th", one.heading, scope="col") for one in columns]
    bodies = [_body(heading, rows, name_of, columns) for heading, rows in groups]
    whole = element(
        "table",
        element("caption", element("span", caption)),
        element("thead", element("tr", element("th", names, scope="col"), heads)),
        bodies,
    )
    return scrolling(whole, caption)


def scrolling(content: Markup, name: str) -> Markup:
    """What is wider than a phone scrolls by itself, by keyboard too, and the page stays put."""
    return element("div", content, class_="scroll", role="region", aria_label=name, tabindex=0)


def _body(
    heading: object, rows: Sequence[Any], name_of: Callable[[Any], object], columns: Sequence[Column]
) -> Markup:
    best = [
        column.best and best_shown([_number(column.value(row)) for row in rows], column.show, column.best)
        for column in columns
    ]
    lines = [
        element(
            "tr",
            element("th", name_of(row), scope="row"),
            [_cell(column, row, shown) for column, shown in zip(columns, best)],
        )
        for row in rows
    ]
    if heading is not None:
        across = element("th", element("span", heading), colspan=len(columns) + 1, scope="rowgroup")
        lines.insert(0, element("tr", across, class_="group"))
    return element("tbody", lines)


def _cell(column: Column, row: Any, best: str | None) -> Markup:
    value = column.value(row)
    shown = column.show(_number(value))
    number = element("b", shown) if shown == best else shown
    interval = None
    if isinstance(value, Estimate) and not math.isnan(value.value):
        interval = element("small", f"{column.show(value.low)} to {column.show(value.high)}")
    return element("td", number, column.mark(row), interval)


def _number(value: Estimate | float) -> float:
    return value.value if isinstance(value, Estimate) else value
