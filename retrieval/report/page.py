"""The page: what was measured, then the sections of this package in the order a reader asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from retrieval.errors import ExportError
from retrieval.evaluate.benchmark import BenchmarkReport
from retrieval.files import obstacle, write_atomically
from retrieval.report import numbers
from retrieval.report.failures import failure_sections
from retrieval.report.losses import losses
from retrieval.report.markup import Markup, element
from retrieval.report.pictures import Pictures
from retrieval.report.results import difference_tables, published_table, results

NAMES_SHOWN = 5  # of each problem


def write_report(path: Path, report: BenchmarkReport) -> None:
    """Write the report as one HTML file without scripts or anything to load.

    An image that can no longer be read keeps its place, with the reason.

    Raises ExportError if the file cannot be written.
    """
    pictures = Pictures(report.paths)
    title = f"Retrieval benchmark: {report.subject}"
    sections = _sections(report, pictures)
    page = element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("title", title),
            element("style", Markup(files("retrieval.report").joinpath("style.css").read_text("utf-8"))),
        ),
        element("body", pictures.embedded(), _header(title, report), _contents(sections),
                element("main", [section for _, _, section in sections])),
        lang="en",
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # File names that are not valid Unicode hold halves of surrogate pairs.
        write_atomically(path, f"<!doctype html>\n{page}\n".encode("utf-8", "replace"))
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror or error}. Give another file.") from error


def check_report_file(path: Path) -> None:
    """Raises ExportError if `write_report` would: better now than after an hour of measuring."""
    if path.is_dir():
        raise ExportError(f"{path} is a folder. Name the file, such as {path / 'report.html'}.")
    reason = obstacle(path)
    if reason:
        raise ExportError(f"{path} cannot be written: {reason}. Give another file.")


def _sections(report: BenchmarkReport, pictures: Pictures) -> list[tuple[str, str, Markup]]:
    """(anchor, heading, section) of all that there is to tell."""
    failed = failure_sections(report.failures, pictures)
    queries = [_links(failed), *(section for _, _, section in failed)] if failed else None
    contents = [
        ("results", "Results", results(report)),
        ("differences", "Differences", difference_tables(report)),
        ("indexes", "Where recall is lost", losses(report.indexes) if report.indexes else None),
        ("published", "Against published numbers", published_table(report)),
        ("failures", "Queries that failed", queries),
    ]
    return [
        (anchor, heading, element("section", element("h2", heading, id=f"{anchor}-heading"), content,
                                  id=anchor, aria_labelledby=f"{anchor}-heading"))
        for anchor, heading, content in contents if content
    ]


def _header(title: str, report: BenchmarkReport) -> Markup:
    return element(
        "header",
        element("h1", title),
        element("p", _summary(report), class_="summary"),
        element("ul", [element("li", _sentence(rule)) for rule in report.rules]) if report.rules else None,
        _problems(report),
        _settings(report.settings),
    )


def _summary(report: BenchmarkReport) -> list[object]:
    task = report.task
    queries = sum(one.queries for one in report.evaluations[0].directions)
    languages = [language for language in task.languages if language]
    asked = f"{numbers.plural(len(task.ids), 'image')}, {numbers.plural(len(task.captions), 'caption')}"
    spoken = f" in {', '.join(languages)}" if languages else ""
    models = [element("strong", one.model) if one.encoder in ("", one.model)
              else [element("strong", one.model), f" ({one.encoder})"] for one in report.evaluations]
    listed = [part for one in models for part in (", ", one)][1:]
    return [
        f"{asked}{spoken}: {numbers.plural(queries, 'query', 'queries')} in both directions, answered by "
        f"{numbers.plural(len(models), 'model')}: ", listed, ".",
    ]


def _problems(report: BenchmarkReport) -> Markup | None:
    problems = report.task.problems.described()
    if report.unreadable:
        reasons = [f"{path} ({reason})" for path, reason in report.unreadable]
        problems = [*problems, ("images that could not be read", len(reasons), reasons)]
    if not problems:
        return None
    items = [element("li", f"{_sentence(what)}: {count:,}{_some(names)}") for what, count, names in problems]
    return element("aside", element("h2", "Left out, or unusual"), element("ul", items), class_="problems")


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _some(names: Sequence[str]) -> str:
    if not names:
        return ""
    others = len(names) - NAMES_SHOWN
    return f" ({', '.join(names[:NAMES_SHOWN])}{f' and {others:,} more' if others > 0 else ''})"


def _settings(settings: Mapping[str, object]) -> Markup | None:
    if not settings:
        return None
    entries = [(element("dt", name), element("dd", _setting(value))) for name, value in settings.items()]
    return element("details", element("summary", "Settings of this run"), element("dl", entries))


def _setting(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)


def _contents(sections: Sequence[tuple[str, str, Markup]]) -> Markup:
    return element("nav", _links(sections), aria_label="Contents")


def _links(sections: Sequence[tuple[str, str, Markup]]) -> Markup:
    links = [element("li", element("a", heading, href=f"#{anchor}")) for anchor, heading, _ in sections]
    return element("ul", links, class_="links")
