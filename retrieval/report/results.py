"""How well each model retrieves: every metric, by language and direction, and whether models differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retrieval.bootstrap import Estimate
from retrieval.evaluate.benchmark import BenchmarkReport
from retrieval.evaluate.compare import Difference
from retrieval.evaluate.evaluation import Evaluation
from retrieval.evaluate.published import PublishedCheck
from retrieval.evaluate.scores import (
    IMAGE_TO_TEXT, MEAN_RANK, MEDIAN_RANK, RANKS, TEXT_TO_IMAGE, DirectionScores, in_percent,
)
from retrieval.report import numbers
from retrieval.report.bars import bars_svg
from retrieval.report.markup import Markup, element
from retrieval.report.scatter import series_class
from retrieval.report.tables import Column, Group, table

_SHOW_RANK = {MEDIAN_RANK: numbers.rank, MEAN_RANK: numbers.decimal}


@dataclass(frozen=True)
class _Result:
    """A row: one model in one direction and language."""

    model: str
    scores: DirectionScores
    differences: Mapping[str, Difference]  # by metric; empty for the reference

    @property
    def reference(self) -> str | None:
        """What it is compared with."""
        return next((one.reference for one in self.differences.values()), None)


def results(report: BenchmarkReport) -> list[Markup | None]:
    """The tables and charts of the evaluations."""
    ks = list(report.evaluations[0].directions[0].hit_rates)
    most = max(ks)
    groups = _groups(report)
    overview = [*(f"R@{k}" for k in ks), "MRR", "mAP", f"nDCG@{most}", MEDIAN_RANK, MEAN_RANK]
    everything = [f"{name}@{k}" for name in ("recall", "precision", "F1", "nDCG") for k in ks]
    references = list(dict.fromkeys(one.reference for one in report.differences))
    return [
        _main_table("Retrieval by exact search", groups, overview),
        _marks_explained(references) if references else None,
        _r_sums(report.evaluations, ks),
        _languages(report.evaluations, f"R@{most}"),
        element(
            "details", element("summary", "Recall, precision, F1 and nDCG at every k"),
            _main_table("Recall, precision, F1 and nDCG", groups, everything),
        ),
        element("details", element("summary", "What the columns mean"), _meanings()),
    ]


def difference_tables(report: BenchmarkReport) -> list[Markup]:
    """Each model less the first, and each that was reranked less itself; none where there is nothing to compare."""
    ks = list(report.evaluations[0].directions[0].hit_rates)
    metrics = [*(f"R@{k}" for k in ks), "MRR", "mAP", f"nDCG@{max(ks)}", MEAN_RANK]
    columns = [
        Column(_heading(metric), lambda row, metric=metric: row.differences[metric].estimate,
               numbers.signed(_show(metric)), mark=lambda row, metric=metric: _mark(row.differences[metric]))
        for metric in metrics
    ]
    tables = []
    for reference in dict.fromkeys(one.reference for one in report.differences):
        compared = [(heading, [row for row in rows if row.reference == reference]) for heading, rows in _groups(report)]
        tables.append(table(f"Difference to {reference}", "Model", lambda row: row.model, columns,
                            [(heading, rows) for heading, rows in compared if rows]))
    return tables


def published_table(report: BenchmarkReport) -> list[object] | None:
    """Ours beside what the models' authors or libraries print, None where nothing is known."""
    if not report.published:
        return None
    columns = [
        Column("published, %", lambda one: one.published, numbers.percent),
        Column("measured, %", lambda one: one.measured, numbers.percent),
        Column("difference, points", lambda one: one.difference, numbers.signed(numbers.decimal),
               mark=lambda one: element("span", "matches" if one.matches else "differs",
                                        class_="verdict better" if one.matches else "verdict worse")),
    ]
    groups: dict[str, list[PublishedCheck]] = {}
    for check in report.published:
        groups.setdefault(f"{check.model} on {check.dataset}", []).append(check)
    return [
        table("Published and measured", "Metric", lambda one: f"{numbers.direction(one.direction)}, R@{one.k}",
              columns, list(groups.items())),
        [element("p", f"Source: {one}", class_="note") for one in sorted({one.source for one in report.published})],
    ]


def _groups(report: BenchmarkReport) -> list[Group]:
    """Rows of all models by language and direction, in the order of the first."""
    differences: dict[tuple[str, str, str], dict[str, Difference]] = {}
    for one in report.differences:
        differences.setdefault((one.model, one.direction, one.language), {})[one.metric] = one
    groups: dict[tuple[str, str], list[_Result]] = {}
    for evaluation in report.evaluations:
        model, again = evaluation.model, report.reranked.get(evaluation.model)
        rows = [
            *((model, scores) for scores in evaluation.directions),
            *((f"{model}, calibrated", scores) for scores in evaluation.calibrated),
            *((f"{model}, reranked", scores) for scores in (again.directions if again else ())),
        ]
        for name, scores in rows:
            asked = scores.direction, scores.language
            groups.setdefault(asked, []).append(_Result(name, scores, differences.get((name, *asked), {})))
    return [(_asked(rows[0].scores), rows) for rows in groups.values()]


def _asked(scores: DirectionScores) -> str:
    query, document = ("caption", "image") if scores.direction == TEXT_TO_IMAGE else ("image", "caption")
    return (
        f"{numbers.direction(scores.direction, scores.language)}: {numbers.plural(scores.queries, query)}, "
        f"each against all of {numbers.plural(scores.documents, document)}"
    )


def _main_table(caption: str, groups: Sequence[Group], metrics: Sequence[str]) -> Markup:
    columns = [
        Column(
            _heading(metric), lambda row, metric=metric: row.scores.estimates[metric], _show(metric),
            best=min if metric in RANKS else max,
            mark=lambda row, metric=metric: _mark(row.differences[metric]) if metric in row.differences else None,
        )
        for metric in metrics
    ]
    return table(caption, "Model", lambda row: row.model, columns, groups)


def _r_sums(evaluations: Sequence[Evaluation], ks: Sequence[int]) -> Markup:
    columns = [
        Column(language or "R-sum", lambda one, language=language: one.r_sums[language], numbers.decimal, best=max)
        for language in evaluations[0].r_sums
    ]
    sums = " + ".join(f"R@{k}" for k in ks)
    caption = f"R-sum: {sums} of both directions, in percent, at most {200 * len(ks)}"
    return table(caption, "Model", lambda one: one.model, columns, [(None, evaluations)])


def _languages(evaluations: Sequence[Evaluation], metric: str) -> Markup | None:
    """Bars of every language and model, one chart per direction; None for a single language."""
    languages = list(evaluations[0].r_sums)
    if len(languages) < 2:
        return None
    charts = []
    for direction in (TEXT_TO_IMAGE, IMAGE_TO_TEXT):
        bars: dict[str, dict[str, Estimate]] = {
            language: {one.model: one.direction(direction, language).estimates[metric] for one in evaluations}
            for language in languages
        }
        title = f"{numbers.direction(direction)}: {metric} by language"
        svg = bars_svg(bars, title=title, description="Bars from 0 to 100 percent; the numbers are in the table.")
        key = [element("li", one.model, class_=series_class(number)) for number, one in enumerate(evaluations)]
        charts.append(element("figure", element("figcaption", title), element("ul", key, class_="key"), svg))
    return element("div", charts, class_="charts")


def _heading(metric: str) -> str:
    return metric.replace("_", " ")


def _show(metric: str) -> numbers.Show:
    return numbers.percent if in_percent(metric) else _SHOW_RANK.get(metric, numbers.fraction)


def _mark(difference: Difference) -> Markup | None:
    if not difference.is_clear:
        return None
    better = (difference.estimate.value > 0) != (difference.metric in RANKS)  # a low rank is a good one
    name = f"clearly {'better' if better else 'worse'} than {difference.reference}"
    return element(
        "span", "▲" if better else "▼", class_=f"mark {'better' if better else 'worse'}", role="img",
        aria_label=name, title=name,
    )


def _marks_explained(references: Sequence[str]) -> Markup:
    reference = references[0] if len(references) == 1 else "what it is compared with under Differences"
    return element(
        "p", element("b", "Bold"), " is the best of its column. ",
        element("span", "▲", class_="mark better"), " is clearly better and ",
        element("span", "▼", class_="mark worse"), f" clearly worse than {reference}: the 95 % interval of the "
        "difference, paired over the same queries, leaves out zero. Intervals of two models may overlap and "
        "their difference be clear all the same.", class_="note",
    )


def _meanings() -> Markup:
    meanings = (
        ("R@k", "percent of queries with a right answer among the first k results, as papers print it"),
        ("recall@k", "percent of a query's right answers that are among the first k"),
        ("precision@k", "percent of the first k that are right"),
        ("F1@k", "harmonic mean of precision and recall"),
        ("MRR", "mean of 1 / rank of the first right answer, from 0 to 1"),
        ("mAP", "mean over queries of the precision at the rank of each right answer, from 0 to 1"),
        ("nDCG@k", "right answers among the first k, less worth the later they come, over the best possible"),
        ("median rank, mean rank", "of the first right answer; 1 is best"),
    )
    return element("dl", [(element("dt", name), element("dd", meaning)) for name, meaning in meanings])
