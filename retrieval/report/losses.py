"""Where recall is lost: what the codes and the search of each index cost, and what they save."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from retrieval.evaluate.index_losses import IndexScores
from retrieval.report import numbers
from retrieval.report.bars import loss_bar
from retrieval.report.markup import Markup, element
from retrieval.report.scatter import Point, scatter_svg
from retrieval.report.tables import Column, table


def losses(indexes: Sequence[IndexScores]) -> list[Markup]:
    """The table and the two charts of the indexes, at least one."""
    k = max(indexes[0].found)
    by_model: dict[str, list[IndexScores]] = {}
    for one in indexes:
        by_model.setdefault(one.model, []).append(one)
    return [
        table(
            f"Text to image, R@{k}: from exact search to what the index finds", "Index", _name,
            _columns(k, indexes[0].measured.k), [(_measured(rows), rows) for rows in by_model.values()],
        ),
        _explained(indexes[0].measured.k),
        element(
            "div",
            _chart(
                by_model, k, "Recall against time", "Median time of one query, ms",
                lambda one: one.measured.latency.p50, "One point per index and search setting.",
            ),
            _chart(
                {model: _best_settings(rows, k) for model, rows in by_model.items()}, k,
                "Recall against memory", "Bytes per vector",
                lambda one: one.measured.bytes_per_vector, "Each index at the setting that finds most.",
            ),
            class_="charts",
        ),
    ]


def _columns(k: int, overlap_k: int) -> list[Column]:
    return [
        Column("exact,\xa0%", lambda one: one.exact[k], numbers.percent),
        Column("codes,\xa0%", lambda one: one.codes[k], numbers.percent, best=max),
        Column("found,\xa0%", lambda one: one.found[k], numbers.percent, best=max),
        Column("lost in codes", lambda one: one.quantisation_loss[k], numbers.percent, best=min),
        Column("lost in search", lambda one: one.search_loss[k], numbers.percent, best=min),
        Column(f"ann recall@{overlap_k},\xa0%", lambda one: one.measured.ann_recall, numbers.percent, best=max),
        Column("p50,\xa0ms", lambda one: one.measured.latency.p50, numbers.measured, best=min),
        Column("p95,\xa0ms", lambda one: one.measured.latency.p95, numbers.measured, best=min),
        Column("p99,\xa0ms", lambda one: one.measured.latency.p99, numbers.measured, best=min),
        Column("queries/s", lambda one: one.measured.latency.queries_per_second, numbers.measured, best=max),
        Column("bytes per vector", lambda one: one.measured.bytes_per_vector, numbers.measured, best=min),
        Column("build,\xa0s", lambda one: one.measured.build_seconds, numbers.measured, best=min),
    ]


def _name(one: IndexScores) -> list[Markup]:
    k = max(one.found)
    setting = element("small", one.setting) if one.setting else None
    bar = loss_bar(one.exact[k].value, one.codes[k].value, one.found[k].value)
    return [element("span", one.measured.factory, class_="factory"), setting, bar]


def _measured(rows: Sequence[IndexScores]) -> str:
    one = rows[0].measured
    threads = numbers.plural(one.latency.threads, "thread")
    return f"{rows[0].model}: {one.n:,} vectors of {one.dim} dimensions, {one.device}, {threads}"


def _explained(overlap_k: int) -> Markup:
    return element(
        "p",
        element("b", "exact"), " compares every vector: what the model is worth. ",
        element("b", "codes"), " compares every vector as the index stores it. ",
        element("b", "found"), " is what the index returns. ",
        element("b", f"ann recall@{overlap_k}"), f" is how much of exact search's first {overlap_k} is among its "
        "own, right or wrong. The bar below an index is exact search: ",
        element("span", "found", class_="swatch kept"), ", ",
        element("span", "lost in search", class_="swatch search-loss"), ", ",
        element("span", "lost in codes", class_="swatch code-loss"),
        ". Losses are in points; below zero, chance was kind.", class_="note",
    )


def _best_settings(rows: Sequence[IndexScores], k: int) -> list[IndexScores]:
    best: dict[str, IndexScores] = {}
    for one in rows:
        known = best.get(one.measured.factory)
        if known is None or one.found[k].value > known.found[k].value:
            best[one.measured.factory] = one
    return list(best.values())


def _chart(
    by_model: dict[str, list[IndexScores]],
    k: int,
    title: str,
    cost_label: str,
    cost: Callable[[IndexScores], float],
    which: str,
) -> Markup:
    series = {
        model: [Point(cost(one), 100 * one.found[k].value, f"{one.measured.factory} {one.setting}".rstrip())
                for one in rows]
        for model, rows in by_model.items()
    }
    reading = f"{which} On the line: no index of the same model is both cheaper and better."
    return element(
        "figure",
        element("figcaption", element("b", title), " ", reading),
        scatter_svg(series, title=title, description=reading, cost_label=cost_label,
                    quality_label=f"R@{k} found, %"),
    )
