"""Graded judgements of captions and images, in three layouts, and what their names stand for.

    trec   query 0 document grade, between blanks
    table  header with a query and a document column, and perhaps one of grades
    json   {query: [document, ...]} or {query: {document: grade}}

Queries may be captions and documents images, or the other way round.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.corpus.layouts import IMAGE_COLUMNS, Caption
from retrieval.corpus.names import resolve_names
from retrieval.corpus.records import Table, numbered_lines, only_json, read_text
from retrieval.errors import CaptionsError

# Column names in order of preference; compared without regard to case.
QUERY_COLUMNS = ("query", "query_id", "qid", "caption", "caption_id", "text")
DOCUMENT_COLUMNS = ("document", "doc", "docid", "document_id", *IMAGE_COLUMNS)
GRADE_COLUMNS = ("relevance", "grade", "score", "rel", "label", "agg_score")
HIGHEST_GRADE = 10**9  # far above any in use, and its sums are far from overflowing

_Entry = tuple[str, str, float]


@dataclass(frozen=True)
class Judgements:
    """The judgements of one file, in its order: (query id, document id, grade >= 0)."""

    entries: list[_Entry]
    layout: str  # "trec", "table" or "json"
    source: Path


@dataclass(frozen=True, eq=False)
class MatchedJudgements:
    """Judged pairs of a caption and an image, each pair once, in order of appearance.

    unmatched: the names that stand for no caption or no image, each once.
    """

    captions: np.ndarray  # (m,) int64, positions in the captions
    images: np.ndarray  # (m,) int64, positions in the ids
    grades: np.ndarray  # (m,) float32, >= 0
    unmatched: list[str]


def read_judgements(path: str | os.PathLike[str]) -> Judgements:
    """Read a judgements file of any known layout.

    A table's header names a query column (query, query_id, qid, caption, caption_id, text), a
    document column (document, doc, docid, document_id, or one for images as in captions files) and
    perhaps a grade column (relevance, grade, score, rel, label, agg_score). Without grades every
    pair listed has grade 1. Negative grades count as 0.

    Raises CaptionsError if the file cannot be read, a column is missing, a line or entry is
    malformed, or it holds no judgements.
    """
    path = Path(path)
    text = read_text(path, "judgements file")
    _, first_line = next(numbered_lines(text))
    if text.lstrip()[0] in "{[":
        layout, entries = "json", _json_entries(only_json(text, str(path)), path)
    elif _is_trec(first_line.split()):
        layout, entries = "trec", _trec_entries(text, path)
    else:
        layout, entries = "table", _table_entries(Table(text, path))
    judgements = Judgements(list(entries), layout, path)
    if not judgements.entries:
        raise CaptionsError(f"{path} holds no judgements. Give a file with at least one.")
    return judgements


def match_judgements(
    judgements: Judgements, captions: Sequence[Caption], caption_images: np.ndarray, ids: Sequence[str]
) -> MatchedJudgements:
    """Find the captions and the images that are judged.

    captions        in file order
    caption_images  (c,) int64, position in ids of each caption's image
    ids             distinct names of the images

    A caption is named by its id, by its text, or as "image#n", the image's nth caption from 0; a
    name that several captions share stands for all of them. An image is named by its number in the
    captions file, or else as captions files name images: see `names.resolve_names`. Whether the
    queries or the documents are the captions is decided for the file as a whole, by which of the
    two finds more pairs. Of several grades for one pair the highest counts.

    Raises CaptionsError if no pair is found.
    """
    left, right = ([entry[side] for entry in judgements.entries] for side in (0, 1))
    by_caption = _captions_by_name(captions, caption_images, ids, {*left, *right})
    keys = {caption.image_key: int(image) for caption, image in zip(captions, caption_images) if caption.image_key}
    sides = [(texts, names, _images_by_name(names, keys, ids)) for texts, names in ((left, right), (right, left))]
    pairs = [
        sum(text in by_caption and name in by_image for text, name in zip(texts, names))
        for texts, names, by_image in sides
    ]
    if not any(pairs):
        held = f" (such as '{captions[0].id or captions[0].text}' of '{captions[0].image}')" if captions else ""
        raise CaptionsError(
            f"None of the {len(left):,} judgements of {judgements.source} (such as '{left[0]}' and '{right[0]}') "
            f"joins one of the {len(captions):,} captions{held} with one of the {len(ids):,} images"
            f"{f' (such as {ids[0]!r})' if ids else ''}. Give the judgements of these captions and images."
        )
    texts, names, by_image = sides[pairs[1] > pairs[0]]
    grades: dict[tuple[int, int], float] = {}
    unmatched: dict[str, None] = {}
    for text, name, (_, _, grade) in zip(texts, names, judgements.entries):
        unmatched |= {one: None for one, known in ((text, by_caption), (name, by_image)) if one not in known}
        if name in by_image:
            for caption in by_caption.get(text, ()):
                pair = caption, by_image[name]
                grades[pair] = max(grade, grades.get(pair, 0.0))
    found = np.array(list(grades), dtype=np.int64).reshape(-1, 2)
    return MatchedJudgements(
        found[:, 0], found[:, 1], np.array(list(grades.values()), dtype=np.float32), list(unmatched)
    )


def _captions_by_name(
    captions: Sequence[Caption], caption_images: np.ndarray, ids: Sequence[str], names: set[str]
) -> dict[str, Sequence[int]]:
    """Return the captions that each name stands for; an id goes before a text, a text before a number."""
    by_id, by_text, of_image = defaultdict(list), defaultdict(list), defaultdict(list)
    for position, (caption, image) in enumerate(zip(captions, caption_images)):
        by_id[caption.id].append(position)
        by_text[caption.text].append(position)
        of_image[int(image)].append(position)
    numbered = {name: name.rpartition("#")[::2] for name in names}
    images, _ = resolve_names(list(dict.fromkeys(image for image, _ in numbered.values() if image)), ids)
    found: dict[str, Sequence[int]] = {}
    for name in names - {""}:
        image, number = numbered[name]
        if name in by_id:
            found[name] = by_id[name]
        elif name.strip() in by_text:
            found[name] = by_text[name.strip()]
        elif image in images and number.isdecimal() and int(number) < len(of_image[images[image]]):
            found[name] = [of_image[images[image]][int(number)]]
    return found


def _images_by_name(names: Sequence[str], keys: dict[str, int], ids: Sequence[str]) -> dict[str, int]:
    known = keys | {name: position for position, name in enumerate(ids)}
    others, _ = resolve_names([name for name in dict.fromkeys(names) if name not in known], ids)
    return known | others


def _is_trec(fields: Sequence[str]) -> bool:
    return len(fields) == 4 and _number(fields[3]) is not None


def _trec_entries(text: str, path: Path) -> Iterator[_Entry]:
    for number, line in numbered_lines(text):
        fields = line.split()
        if len(fields) != 4:
            raise CaptionsError(f"{path}, line {number} is not 'query 0 document grade'. Mend that line.")
        yield fields[0], fields[2], _grade(fields[3], f"{path}, line {number}")


def _table_entries(table: Table) -> Iterator[_Entry]:
    query = table.column("query", QUERY_COLUMNS, taken=DOCUMENT_COLUMNS + GRADE_COLUMNS)
    document = table.column("document", DOCUMENT_COLUMNS, taken=QUERY_COLUMNS + GRADE_COLUMNS)
    grade = table.find(GRADE_COLUMNS)
    for number, fields in table.records({query: "query", document: "document"}):
        where = f"{table.path}, line {number}"
        yield fields[query], fields[document], 1.0 if grade is None else _grade(fields[grade], where)


def _json_entries(content: Any, path: Path) -> Iterator[_Entry]:
    advice = "Give {query: [document, ...]} or {query: {document: grade}}."
    if not isinstance(content, dict):
        raise CaptionsError(f"{path} is a JSON list, not an object. {advice}")
    for query, judged in content.items():
        where = f"{path}, query '{query[:40]}'"
        pairs: Iterable[tuple[Any, Any]]
        if isinstance(judged, dict):
            pairs = judged.items()
        elif isinstance(judged, list):
            pairs = ((document, 1.0) for document in judged)
        else:
            raise CaptionsError(f"{where} has neither a list of documents nor grades. {advice}")
        for document, grade in pairs:
            if not isinstance(document, (int, str)):
                raise CaptionsError(f"{where} judges {document!r}, which is not a name. {advice}")
            yield query, str(document), _grade(grade, f"{where}, document '{document}'")


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _grade(value: Any, where: str) -> float:
    number = _number(value)
    if number is None or not math.isfinite(number) or number > HIGHEST_GRADE:
        raise CaptionsError(
            f"{where} has the grade {value!r}, which is not a finite number up to {HIGHEST_GRADE:,}. Mend it."
        )
    return max(0.0, number)
