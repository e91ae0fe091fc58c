"""The queries that failed: what was asked, what came, and what should have come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retrieval.evaluate.failures import Answer, Failure
from retrieval.metrics import UNRANKED
from retrieval.report import numbers
from retrieval.report.markup import Markup, element
from retrieval.report.pictures import Pictures


def failure_sections(failures: Mapping[str, Sequence[Failure]], pictures: Pictures) -> list[tuple[str, str, Markup]]:
    """(anchor, heading, section) of every model, direction and language that has failures."""
    groups: dict[tuple[str, str, str], list[Failure]] = {}
    for model, failed in failures.items():
        for one in failed:
            groups.setdefault((model, one.direction, one.language), []).append(one)
    sections = []
    for number, ((model, direction, language), failed) in enumerate(groups.items(), 1):
        anchor, heading = f"failures-{number}", f"{model}: {numbers.direction(direction, language).lower()}"
        articles = [_failure(one, pictures) for one in failed]
        section = element("section", element("h3", heading, id=f"{anchor}-heading"), articles, id=anchor,
                          aria_labelledby=f"{anchor}-heading")
        sections.append((anchor, heading, section))
    return sections


def _failure(failure: Failure, pictures: Pictures) -> Markup:
    if failure.text:
        query = element("blockquote", element("p", failure.text, dir="auto"))
    else:
        query = element("figure", pictures.show(failure.id), element("figcaption", failure.id))
    return element(
        "article",
        element("header", element("p", _verdict(failure.rank), class_="rank"), query),
        element("div", element("h4", "What came"), _answers(failure.came, pictures, told_apart=True)),
        element("div", element("h4", "What should have come"), _answers(failure.should, pictures, told_apart=False)),
        class_="failure" if failure.text else "failure asked-by-image",
    )


def _verdict(rank: int) -> str:
    return "Nothing right was found" if rank == UNRANKED else f"First right answer at rank {rank:,}"


def _answers(answers: Sequence[Answer], pictures: Pictures, *, told_apart: bool) -> Markup:
    """A list of captions, or of images side by side."""
    of_text = bool(answers) and bool(answers[0].text)
    items = [_answer(one, pictures, outlined=told_apart and one.right) for one in answers]
    return element("ol", items, class_="captions" if of_text else "images")


def _answer(answer: Answer, pictures: Pictures, *, outlined: bool) -> Markup:
    rank = "not found" if answer.rank == UNRANKED else f"{answer.rank:,}."
    placed = element(
        "p", element("b", rank), f" {answer.score:.3f} ".replace("-", "−"),
        element("span", "right", class_="badge") if outlined else None, class_="place",
    )
    shown = element("p", answer.text, dir="auto") if answer.text else pictures.show(answer.id)
    return element("li", shown, placed, element("p", answer.id, class_="id"), class_="right" if outlined else None)
