"""A retrieval task: captioned images, what each direction asks of them, and what counts as right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from retrieval.corpus.captions import Caption, CaptionSet, match_captions
from retrieval.corpus.qrels import match_judgements, read_judgements
from retrieval.errors import CaptionsError
from retrieval.metrics import Relevance


@dataclass(frozen=True)
class Problems:
    """What of the captions could not be used, each name once.

    missing      names in the captions without an image
    ambiguous    names that fit several images equally well
    uncaptioned  images without a caption: distractors for text queries, never queries
    empty        captions without text
    malformed    lines that could not be read, with the reason
    unmatched    judged captions and images that are not there
    """

    missing: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)
    uncaptioned: list[str] = field(default_factory=list)
    empty: int = 0
    malformed: list[str] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)

    def described(self) -> list[tuple[str, int, list[str]]]:
        """(what, how many, names) of each kind that occurs."""
        kinds = [
            ("captioned images that are not here", len(self.missing), self.missing),
            ("names that fit several images equally well, left out", len(self.ambiguous), self.ambiguous),
            ("images without a caption", len(self.uncaptioned), self.uncaptioned),
            ("empty captions, left out", self.empty, []),
            ("malformed lines, left out", len(self.malformed), self.malformed),
            ("judged names that are not here", len(self.unmatched), self.unmatched),
        ]
        return [kind for kind in kinds if kind[1]]


@dataclass(frozen=True, eq=False)
class Task:
    """What is asked, of which images, and what is right.

    ids            n images that compete, captioned or not
    captions       c captions that have an image here
    images         (c,) int64, position in ids of each caption's image
    text_to_image  for c queries, rows are positions in ids
    image_to_text  for n queries, rows are positions in captions; uncaptioned images have none
    rules          sentences on how queries and right answers were chosen
    """

    ids: list[str]
    captions: list[Caption]
    images: np.ndarray
    text_to_image: Relevance
    image_to_text: Relevance
    problems: Problems = Problems()
    rules: tuple[str, ...] = ()

    @property
    def languages(self) -> list[str]:
        """In order of appearance; [""] where the captions name none."""
        return list(dict.fromkeys(caption.language for caption in self.captions))

    def captions_in(self, language: str) -> np.ndarray:
        """Positions of one language's captions."""
        return np.flatnonzero([caption.language == language for caption in self.captions])

    def in_language(self, language: str) -> tuple[Task, np.ndarray]:
        """The task of one language's captions among all images, and which captions those are."""
        chosen = self.captions_in(language)
        place = np.full(len(self.captions), -1)
        place[chosen] = np.arange(len(chosen))
        whole = self.text_to_image
        kept = place[whole.queries] >= 0
        queries, rows, grades = place[whole.queries][kept], whole.rows[kept], whole.grades[kept]
        captions = [self.captions[one] for one in chosen]
        return _task(self.ids, captions, self.images[chosen], queries, rows, grades,
                     self.problems, self.rules), chosen


def make_task(
    read: CaptionSet,
    ids: Sequence[str],
    *,
    judgements: Path | None = None,
    extra: Path | None = None,
    rules: Sequence[str] = (),
    strict: bool = False,
) -> Task:
    """Join captions to images.

    ids         document ids of all images that compete
    judgements  a qrels file that says alone what is right; queries that it does not judge are left out
    extra       a qrels file of right answers beside those, or beside every caption's own image
    strict      refuse captions without images, images without captions, and what else is amiss

    Raises CaptionsError.
    """
    matched = match_captions(read.captions, ids)
    captions, images = matched.captions, matched.documents
    queries, rows = np.arange(len(captions)), images
    grades = np.ones(len(captions), np.float32)
    rules = list(rules)
    unmatched: list[str] = []
    for file, replaces in ((judgements, True), (extra, False)):
        if file is None:
            continue
        judged = match_judgements(read_judgements(file), captions, images, ids)
        unmatched += judged.unmatched
        if replaces:
            queries, rows, grades = judged.captions, judged.images, judged.grades
            rules.append(f"Right answers are those of {file.name} alone.")
        else:
            queries = np.concatenate([queries, judged.captions])
            rows = np.concatenate([rows, judged.images])
            grades = np.concatenate([grades, judged.grades])
            rules.append(
                f"Those of {file.name} are right too." if judgements
                else f"Right answers are a caption's own image and those of {file.name}."
            )
    problems = Problems(
        matched.missing, matched.ambiguous, matched.uncaptioned, read.empty, list(read.malformed),
        list(dict.fromkeys(unmatched)),
    )
    if strict:
        _refuse(problems, read.source)
    if not (grades > 0).any():
        raise CaptionsError(f"{judgements} calls nothing right: all of its grades here are 0. Give one with higher ones.")
    return _task(list(ids), captions, images, queries, rows, grades, problems, tuple(rules))


def _task(ids, captions, images, queries, rows, grades, problems, rules) -> Task:
    return Task(
        ids, captions, images,
        Relevance.from_pairs(queries, rows, grades, n_queries=len(captions)),
        Relevance.from_pairs(rows, queries, grades, n_queries=len(ids)),
        problems, rules,
    )


def _refuse(problems: Problems, source: Path) -> None:
    found = problems.described()
    if found:
        listed = "; ".join(
            f"{count} {what}" + (f" ({', '.join(names[:3])}{', ...' if count > 3 else ''})" if names else "")
            for what, count, names in found
        )
        raise CaptionsError(f"{source} and the images do not fit, and --strict was given: {listed}.")
