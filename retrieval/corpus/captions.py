"""Captions files in four layouts, told apart by content, and the images their names stand for.

    table            header, then one caption a line; tab, pipe, semicolon or comma between columns
    flickr8k-tokens  name.jpg#0 <tab> caption
    coco             {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}
    karpathy         {"images": [{"filename", "filepath"?, "split", "sentences": [{"raw"}]}]}
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.corpus.names import resolve_names
from retrieval.errors import CaptionsError

# Column names in order of preference; compared without regard to case.
IMAGE_COLUMNS = ("image", "image_name", "image_path", "filename", "file_name", "file", "path", "filepath")
CAPTION_COLUMNS = ("caption", "text", "comment", "title")
SPLIT_COLUMN = "split"
DELIMITERS = {"\t": "tab", "|": "pipe", ";": "semicolon", ",": "comma"}

_TOKENS_LINE = re.compile(r"(?P<image>[^\t]+)#\d+\t(?P<text>.*)")
_Row = tuple[str, str, "str | None"]  # image, text, split


@dataclass(frozen=True)
class Caption:
    """One caption; `image` is the name or relative path as the captions file gives it."""

    image: str
    text: str


@dataclass(frozen=True)
class CaptionSet:
    """The captions of one file, in its order; `empty` counts those dropped because blank."""

    captions: list[Caption]
    layout: str  # "table", "flickr8k-tokens", "coco" or "karpathy"
    empty: int
    source: Path


@dataclass(frozen=True, eq=False)
class MatchedCaptions:
    """Captions joined to documents. The lists of names hold each name once, in order of appearance."""

    texts: list[str]
    documents: np.ndarray  # (c,) int64, position in ids of each text's image
    missing: list[str]  # image names without a document
    ambiguous: list[str]  # image names that fit several documents, or share one with another name
    uncaptioned: list[str]  # ids without a caption


def read_captions(path: str | os.PathLike[str], *, split: str | None = None) -> CaptionSet:
    """Read a captions file of any known layout.

    path   a UTF-8 file, with or without a byte-order mark
    split  keep this split alone, spelled exactly as in the file (Karpathy's "train" leaves out
           "restval"); None keeps every split

    A table's header names an image column (image, image_name, image_path, filename, file_name,
    file, path, filepath), a caption column (caption, text, comment, title) and perhaps a split
    column; of several candidates the one listed first here is taken, other columns are ignored.
    Between tabs or pipes quotation marks are text; between commas or semicolons they are CSV quotes.

    Raises CaptionsError if the file cannot be read, its layout is unknown, a line or entry is
    malformed, the split is not in it, or it holds no captions.
    """
    path = Path(path)
    layout, rows = _sniff(_read_text(path), path)
    captions, empty, splits = [], 0, set()
    for image, text, part in rows:
        splits.add(part)
        if split is not None and part != split:
            continue
        if text:
            captions.append(Caption(image, text))
        else:
            empty += 1
    if split is not None and split not in splits:
        known = sorted(part for part in splits if part)
        advice = f"choose from {_listing(known)}" if known else "the file names no splits, so leave the split out"
        raise CaptionsError(f"{path} has no split '{split}': {advice}.")
    if not captions:
        raise CaptionsError(f"{path} holds no captions ({empty} blank). Give a file with at least one.")
    return CaptionSet(captions, layout, empty, path)


def match_captions(captions: Sequence[Caption], ids: Sequence[str]) -> MatchedCaptions:
    """Join captions to documents by image name; `names.resolve_names` has the rules.

    captions  as read by `read_captions`
    ids       document ids: distinct relative paths such as "2019/beach/IMG_1.jpg"

    Raises CaptionsError if no name finds a document.
    """
    names = list(dict.fromkeys(caption.image for caption in captions))
    positions, ambiguous = resolve_names(names, ids)
    if not positions:
        named = f" (such as '{names[0]}')" if names else ""
        held = f" (such as '{ids[0]}')" if ids else ""
        advice = "Some names fit several: give longer paths" if ambiguous else "Give the captions of these images"
        raise CaptionsError(
            f"None of the {len(names)} images the captions name{named} "
            f"is among the {len(ids)} documents{held}. {advice}."
        )
    matched = [caption for caption in captions if caption.image in positions]
    documents = np.array([positions[caption.image] for caption in matched], dtype=np.int64)  # (c,)
    captioned = set(documents.tolist())
    return MatchedCaptions(
        texts=[caption.text for caption in matched],
        documents=documents,
        missing=[name for name in names if name not in positions and name not in ambiguous],
        ambiguous=[name for name in names if name in ambiguous],
        uncaptioned=[document_id for position, document_id in enumerate(ids) if position not in captioned],
    )


def _read_text(path: Path) -> str:
    if path.is_dir():
        raise CaptionsError(f"{path} is a folder. Give the captions file itself.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise CaptionsError(f"There is no captions file {path}. Check the path.") from None
    except OSError as error:
        raise CaptionsError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise CaptionsError(f"{path} is not UTF-8 text (line {line}). Save it as UTF-8.") from None
    if not text.strip():
        raise CaptionsError(f"{path} is empty. Give a file with captions.")
    return text


def _sniff(text: str, path: Path) -> tuple[str, Iterable[_Row]]:
    """Return the layout and its rows, read lazily."""
    if text.lstrip()[0] in "{[":
        return _json_layout(text, path)
    first_line = next(line for line in io.StringIO(text, newline=None) if line.strip())
    if _TOKENS_LINE.match(first_line):
        return "flickr8k-tokens", _token_rows(text, path)
    return "table", _table_rows(text, path, first_line)


def _token_rows(text: str, path: Path) -> Iterator[_Row]:
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        match = _TOKENS_LINE.match(line)
        if match:
            yield match["image"].strip(), match["text"].strip(), None
        elif line.strip():
            raise CaptionsError(f"{path}, line {number} is not name.jpg#0, a tab and a caption. Mend that line.")


def _table_rows(text: str, path: Path, header: str) -> Iterator[_Row]:
    delimiter = next((mark for mark in DELIMITERS if mark in header), ",")
    quoting = csv.QUOTE_MINIMAL if delimiter in ",;" else csv.QUOTE_NONE
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, skipinitialspace=True, strict=True)
    columns: list[str] = []
    try:
        for fields in reader:
            fields = [field.strip() for field in fields]
            if not any(fields):
                continue
            if not columns:
                columns = [field.lower() for field in fields]
                image = _column(columns, "image", IMAGE_COLUMNS, path)
                caption = _column(columns, "caption", CAPTION_COLUMNS, path)
                part = columns.index(SPLIT_COLUMN) if SPLIT_COLUMN in columns else None
                continue
            where = f"{path}, line {reader.line_num}"
            if len(fields) != len(columns):
                quoted = " unless it is quoted" if quoting == csv.QUOTE_MINIMAL else ""
                raise CaptionsError(
                    f"{where} has {len(fields)} fields, the header {len(columns)}. "
                    f"A caption may hold no {DELIMITERS[delimiter]}{quoted}."
                )
            if not fields[image]:
                raise CaptionsError(f"{where} names no image. Mend or remove that line.")
            yield fields[image], fields[caption], None if part is None else fields[part]
    except csv.Error as error:
        raise CaptionsError(f"{path}, line {reader.line_num}: {error}. Quote that caption as CSV does.") from None


def _column(columns: list[str], role: str, known: tuple[str, ...], path: Path) -> int:
    for name in known:
        if name in columns:
            return columns.index(name)
    strangers = [name for name in columns if name not in IMAGE_COLUMNS + CAPTION_COLUMNS]
    near = next((name for name in strangers if difflib.get_close_matches(name, known)), None)
    advice = f"Rename '{near}' to '{role}'." if near else f"Name one of them {' or '.join(known)}."
    raise CaptionsError(f"{path} has no {role} column; its header reads {_listing(columns)}. {advice}")


def _json_layout(text: str, path: Path) -> tuple[str, Iterable[_Row]]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise CaptionsError(
            f"{path} is not valid JSON: {error.msg}, line {error.lineno}, column {error.colno}. Mend it there."
        ) from None
    except (ValueError, RecursionError) as error:  # absurd numbers or nesting
        raise CaptionsError(f"{path} is not a captions file that can be read: {error}.") from None
    images, annotations = (_entries(content, key) for key in ("images", "annotations"))
    if images is not None and annotations is not None:
        return "coco", _coco_rows(images, annotations, path)
    if images and isinstance(images[0], dict) and "sentences" in images[0]:
        return "karpathy", _karpathy_rows(images, path)
    found = f"its keys are {_listing(list(content))}" if isinstance(content, dict) else "it is a list"
    raise CaptionsError(
        f"{path} is JSON of an unknown layout: {found}. Known are COCO's (images with file_name, "
        "annotations with caption) and Karpathy's (images with filename, sentences with raw)."
    )


def _coco_rows(images: list[Any], annotations: list[Any], path: Path) -> Iterator[_Row]:
    names = {}
    for number, image in enumerate(images):
        where = f"{path}, images[{number}]"
        names[_field(image, "id", where, (int, str))] = _field(image, "file_name", where)
    for number, annotation in enumerate(annotations):
        where = f"{path}, annotations[{number}]"
        image_id = _field(annotation, "image_id", where, (int, str))
        if image_id not in names:
            raise CaptionsError(f"{where} captions image {image_id!r}, which is not listed. Add or remove it.")
        yield names[image_id], _field(annotation, "caption", where).strip(), None


def _karpathy_rows(images: list[Any], path: Path) -> Iterator[_Row]:
    for number, image in enumerate(images):
        where = f"{path}, images[{number}]"
        name = _field(image, "filename", where)
        if "filepath" in image:
            name = posixpath.join(_field(image, "filepath", where), name)
        part = _field(image, "split", where) if "split" in image else None
        for place, sentence in enumerate(_field(image, "sentences", where, list)):
            yield name, _field(sentence, "raw", f"{where}.sentences[{place}]").strip(), part


def _entries(content: Any, key: str) -> list[Any] | None:
    entries = content.get(key) if isinstance(content, dict) else None
    return entries if isinstance(entries, list) else None


def _field(entry: Any, key: str, where: str, kind: type | tuple[type, ...] = str) -> Any:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, kind):
        raise CaptionsError(f"{where} has no usable '{key}'. Mend that entry.")
    return value


def _listing(names: list[str], most: int = 8) -> str:
    shown = ", ".join(f"'{name[:40]}'" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
