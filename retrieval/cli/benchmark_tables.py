"""How `retrieval benchmark` shows a report: tables for people, one long table for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from retrieval.bootstrap import Estimate
from retrieval.cli import output as out
from retrieval.evaluate.benchmark import BenchmarkReport
from retrieval.evaluate.evaluation import Evaluation
from retrieval.evaluate.scores import IMAGE_TO_TEXT, RANKS, TEXT_TO_IMAGE, DirectionScores, in_percent
from retrieval.report.numbers import best_shown

_DIRECTIONS = {TEXT_TO_IMAGE: "text to image", IMAGE_TO_TEXT: "image to text"}
# Text to image, as a search of a calibrated collection ranks, and as one with --rerank does.
_CALIBRATED, _RERANKED = "calibrated", "reranked"
_NAMES_SHOWN = 5
_FAILURES_SHOWN = 20


def print_tables(report: BenchmarkReport) -> None:
    """On a terminal."""
    if len(report.evaluations) == 1 and len(report.task.languages) == 1:
        _one_model(report)
    else:
        _several(report)
    _differences(report)
    _indexes(report)
    _published(report)
    _thresholds(report)
    _failures(report)


def print_values(report: BenchmarkReport) -> None:
    """One value a line, as fractions, ranks, milliseconds, bytes and seconds."""
    columns = ("model", "index", "language", "direction", "metric", "value", "low", "high")
    out.print_rows(columns, [[out.plain(cell) for cell in row] for row in _values(report)])


def print_notes(report: BenchmarkReport) -> None:
    """On stderr: how it was measured, and what could not be used."""
    for rule in report.rules:
        click.echo(f"- {rule}", err=True)
    for what, count, names in report.task.problems.described():
        listed = f": {', '.join(names[:_NAMES_SHOWN])}" if names else ""
        more = f" and {count - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        click.echo(f"{count} {what}{listed}{more}", err=True)
    out.warn_skipped(report.unreadable)


def _one_model(report: BenchmarkReport) -> None:
    evaluation = report.evaluations[0]
    rows = []
    columns = [(_DIRECTIONS[one.direction], one) for one in evaluation.directions]
    columns[1:1] = _as_searched(report, evaluation)
    for metric in evaluation.directions[0].estimates:
        shown = [_with_interval(metric, one.estimates[metric]) for _, one in columns]
        rows.append((metric.replace("_", " "), *shown))
    (r_sum,) = evaluation.r_sums.values()
    rows.append(("R-sum of both", f"{r_sum.value:.1f}  {r_sum.low:.1f}-{r_sum.high:.1f}", *[""] * (len(columns) - 1)))
    out.print_rows(("", *(name for name, _ in columns)), rows,
                   title=f"{report.subject}, {evaluation.model}, with 95 % intervals; R, recall, precision, F1 in percent")


def _several(report: BenchmarkReport) -> None:
    languages = list(report.evaluations[0].r_sums)  # judgements may leave others out
    several_languages = len(languages) > 1
    metrics = [name for name in report.evaluations[0].directions[0].estimates
               if name.startswith(("R@", "nDCG@")) or "@" not in name]
    rows = []
    for language in languages:
        for direction in _DIRECTIONS:
            compared = [one.direction(direction, language).estimates for one in report.evaluations]
            best = {metric: _best(metric, [one[metric].value for one in compared]) for metric in metrics}
            for evaluation, estimates in zip(report.evaluations, compared):
                shown = {metric: _value(metric, estimates[metric].value) for metric in metrics}
                cells = [out.Best(text) if text == best[metric] else text for metric, text in shown.items()]
                r_sum = f"{evaluation.r_sums[language].value:.1f}"
                rows.append((*([language] if several_languages else []), _DIRECTIONS[direction],
                             evaluation.model, *cells, r_sum))
            for evaluation in report.evaluations if direction == TEXT_TO_IMAGE else ():
                rows += [(*([language] if several_languages else []), name, evaluation.model,
                          *(_value(metric, one.estimates[metric].value) for metric in metrics), "")
                         for name, one in _as_searched(report, evaluation) if one.language == language]
    columns = (*(["language"] if several_languages else []), "direction", "model",
               *(metric.replace("_", " ") for metric in metrics), "R-sum")
    out.print_rows(columns, rows, title=f"{report.subject}; R@k in percent")


def _as_searched(report: BenchmarkReport, evaluation: Evaluation) -> list[tuple[str, DirectionScores]]:
    """(name, scores) of text to image beside the plain one, as searches of this model rank."""
    again = report.reranked.get(evaluation.model)
    return [(_CALIBRATED, one) for one in evaluation.calibrated] + [
        (_RERANKED, one) for one in (again.directions if again else ())]


def _differences(report: BenchmarkReport) -> None:
    for reference in dict.fromkeys(one.reference for one in report.differences):
        compared = [one for one in report.differences if one.reference == reference and one.metric.startswith("R@")]
        models = {one.model for one in compared}
        what = f"Difference: {models.pop()} less {reference}" if len(models) == 1 else f"Difference to {reference}"
        _print_telling(
            ("model", "direction", "language", "metric", "points", "95 % interval", "clear"),
            [(one.model, _DIRECTIONS[one.direction], one.language, one.metric,
              f"{100 * one.estimate.value:+.1f}", f"{100 * one.estimate.low:+.1f} to {100 * one.estimate.high:+.1f}",
              "yes" if one.is_clear else "no")
             for one in compared],
            title=f"{what}, over the same queries",
        )


def _indexes(report: BenchmarkReport) -> None:
    if not report.indexes:
        return
    k = max(report.indexes[0].found)
    measured = [((scores.model, scores.measured.factory, scores.setting), scores, scores.measured)
                for scores in report.indexes]
    _print_telling(
        ("model", "index", "setting", f"R@{k} exact", "codes", "found", f"ANN recall@{measured[0][2].k}"),
        [(*name, f"{100 * scores.exact[k].value:.1f}", f"{100 * scores.codes[k].value:.1f}",
          f"{100 * scores.found[k].value:.1f}", f"{100 * one.ann_recall:.1f}") for name, scores, one in measured],
        title="Where recall is lost, text to image: exact search, through the index's codes, as the index finds it",
    )
    _print_telling(
        ("model", "index", "setting", "p50 ms", "p95", "p99", "queries/s", "bytes/vector", "build s"),
        [(*name, f"{one.latency.p50:.2f}", f"{one.latency.p95:.2f}", f"{one.latency.p99:.2f}",
          f"{one.latency.queries_per_second:.0f}", f"{one.bytes_per_vector:.0f}", f"{one.build_seconds:.2f}")
         for name, _, one in measured],
        title="What a search costs",
    )


def _published(report: BenchmarkReport) -> None:
    if report.published:
        out.print_rows(
            ("model", "direction", "R@", "published", "measured", "points apart", "matches"),
            [(one.model, _DIRECTIONS[one.direction], one.k, f"{100 * one.published:.2f}",
              f"{100 * one.measured:.2f}", f"{one.difference:+.2f}", "yes" if one.matches else "NO")
             for one in report.published],
            title=f"Published by {report.published[0].source}",
        )


def _thresholds(report: BenchmarkReport) -> None:
    if report.thresholds:
        out.print_rows(
            ("model", "images left", "precision", "recall", "rejected"),
            [(one.model, one.images, *(_with_interval("R@1", share) for share in one.shares.values()))
             for one in report.thresholds],
            title="search --min-score auto, after half of the images were taken away; in percent",
        )


def _failures(report: BenchmarkReport) -> None:
    for model, failures in report.failures.items():
        for direction in _DIRECTIONS:
            chosen = [one for one in failures if one.direction == direction]
            if chosen:
                out.print_rows(
                    ("query", "rank", "came", "should have come"),
                    [(one.text or one.id, one.rank, one.came[0].text or one.came[0].id,
                      one.should[0].text or one.should[0].id) for one in chosen[:_FAILURES_SHOWN]],
                    title=f"Worst {_DIRECTIONS[direction]} queries of {model} "
                          f"({len(chosen)}; --html shows them all, with pictures)",
                )


def _values(report: BenchmarkReport) -> Iterator[tuple]:
    for evaluation in report.evaluations:
        for one in evaluation.directions:
            for metric, estimate in one.estimates.items():
                yield (evaluation.model, "", one.language, one.direction, metric,
                       estimate.value, estimate.low, estimate.high)
        for name, one in _as_searched(report, evaluation):
            for metric, estimate in one.estimates.items():
                yield (evaluation.model, "", one.language, f"{one.direction} {name}", metric,
                       estimate.value, estimate.low, estimate.high)
        for language, estimate in evaluation.r_sums.items():
            yield (evaluation.model, "", language, "both", "R-sum", estimate.value, estimate.low, estimate.high)
    for model, again in report.reranked.items():
        yield model, "", "", f"{TEXT_TO_IMAGE} {_RERANKED}", "p50_ms", again.milliseconds, "", ""
    for one in report.differences:
        yield (f"{one.model} - {one.reference}", "", one.language, one.direction, one.metric,
               one.estimate.value, one.estimate.low, one.estimate.high)
    for scores in report.indexes:
        measured, latency = scores.measured, scores.measured.latency
        name = f"{measured.factory} {scores.setting}".strip()
        for what, estimates in (("exact", scores.exact), ("codes", scores.codes), ("found", scores.found)):
            for k, estimate in estimates.items():
                yield (scores.model, name, "", TEXT_TO_IMAGE, f"R@{k} {what}",
                       estimate.value, estimate.low, estimate.high)
        costs = {
            f"ann_recall@{measured.k}": measured.ann_recall, "p50_ms": latency.p50, "p95_ms": latency.p95,
            "p99_ms": latency.p99, "queries_per_second": latency.queries_per_second,
            "bytes_per_vector": measured.bytes_per_vector, "build_seconds": measured.build_seconds,
        }
        for metric, value in costs.items():
            yield scores.model, name, "", TEXT_TO_IMAGE, metric, value, "", ""
    for one in report.thresholds:
        for name, share in one.shares.items():
            yield one.model, "", "", TEXT_TO_IMAGE, f"auto threshold {name}", share.value, share.low, share.high
    for one in report.published:
        yield (one.model, "", "", one.direction, f"R@{one.k} published", one.published, "", "")


def _print_telling(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str) -> None:
    """Without the columns that tell nothing: a setting that no row has, the one model there is."""
    kept = [
        at for at, (name, cells) in enumerate(zip(columns, zip(*rows)))
        if any(cells) and not (name == "model" and len(set(cells)) == 1)
    ]
    out.print_rows([columns[at] for at in kept], [[row[at] for at in kept] for row in rows], title=title)


def _value(metric: str, value: float) -> str:
    """As papers print it: MRR, mAP and nDCG from 0 to 1, other shares in percent."""
    if in_percent(metric):
        return f"{100 * value:.1f}"
    return f"{value:.1f}" if metric in RANKS else f"{value:.3f}"


def _best(metric: str, values: list[float]) -> str | None:
    return best_shown(values, lambda value: _value(metric, value), min if metric in RANKS else max)


def _with_interval(metric: str, estimate: Estimate) -> str:
    return f"{_value(metric, estimate.value)}  {_value(metric, estimate.low)}-{_value(metric, estimate.high)}"
