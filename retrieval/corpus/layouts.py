"""The layouts of captions files, told apart by content.

    table            header, then one caption a line; tab, pipe, semicolon or comma between columns
    flickr8k-tokens  name.jpg#0 <tab> caption
    coco             {"images": [{"id", "file_name"}], "annotations": [{"id"?, "image_id", "caption"}]}
    karpathy         {"images": [{"filename", "filepath"?, "split", "sentences": [{"raw", "sentid"?}]}]}
    image-paths      {"image_paths": [...], "annotations": [caption or captions]} in NAME-LANGUAGE.json
    records          [{"image", "caption": caption or captions, "id"?, "language"?, "split"?}]
    json-lines       such records, one a line
    xm3600           {"image/key": ..., "en": {"caption": [...]}, "zh": ...}, one a line
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.corpus.records import (
    Table, first_json, listing, missing_column, numbered_lines, only_json,
)
from retrieval.errors import CaptionsError

# Column names in order of preference; compared without regard to case.
IMAGE_COLUMNS = ("image", "image_name", "image_path", "filename", "file_name", "file", "path", "filepath")
CAPTION_COLUMNS = ("caption", "text", "comment", "title", "raw")
ID_COLUMNS = ("caption_id", "id", "sentids")
KEY_COLUMNS = ("image_id", "img_id")
LANGUAGE_COLUMNS = ("language", "lang", "locale")
SPLIT_COLUMNS = ("split",)
TOLERANCE = 0.01  # of a table's lines: above this the table is misread, below it a line is damaged

_TOKENS_LINE = re.compile(r"(?P<id>(?P<image>[^\t]+)#\d+)\t(?P<text>.*)")
_XM3600_KEY = "image/key"
LANGUAGE_CODES = {"jp": "ja"}  # as data sets spell a language, and its code


@dataclass(frozen=True)
class Caption:
    """One caption, as the captions file has it.

    image      name or relative path of its image
    id         the file's own id of the caption; "" if it has none
    language   the file's code of the language; "" if it names none
    image_key  the number by which the file also calls the image; "" if it has none
    """

    image: str
    text: str
    id: str = ""
    language: str = ""
    image_key: str = ""


Row = tuple[Caption, "str | None"]  # and its split


@dataclass(frozen=True)
class Columns:
    """Names of the columns, or keys, of images and captions: the first that is there is meant."""

    image: Sequence[str] = IMAGE_COLUMNS
    caption: Sequence[str] = CAPTION_COLUMNS


def rows_in(text: str, path: Path, columns: Columns = Columns()) -> tuple[str, Iterable[Row], list[str]]:
    """Return the layout, its rows, read lazily, and the list that the malformed lines passed over go to.

    Raises CaptionsError, now or while the rows are read.
    """
    if text.lstrip()[0] in "{[":
        return *_json_layout(text, path, columns), []
    _, first_line = next(numbered_lines(text))
    if _TOKENS_LINE.match(first_line):
        return "flickr8k-tokens", _token_rows(text, path), []
    table = Table(text, path)
    return "table", _table_rows(table, columns), table.malformed


def no_split(path: Path, split: str, known: Iterable[str | None]) -> CaptionsError:
    """The error of a split that is not among those in the file."""
    named = sorted(part for part in known if part)
    advice = f"choose from {listing(named)}" if named else "the file names no splits, so leave the split out"
    return CaptionsError(f"{path} has no split '{split}': {advice}.")


def _token_rows(text: str, path: Path) -> Iterator[Row]:
    for number, line in numbered_lines(text):
        match = _TOKENS_LINE.match(line)
        if not match:
            raise CaptionsError(f"{path}, line {number} is not name.jpg#0, a tab and a caption. Mend that line.")
        yield Caption(match["image"].strip(), match["text"].strip(), match["id"].strip()), None


def _table_rows(table: Table, columns: Columns) -> Iterator[Row]:
    image = table.column("image", columns.image, taken=columns.caption)
    caption = table.column("caption", columns.caption, taken=columns.image)
    others = [table.find(known) for known in (ID_COLUMNS, LANGUAGE_COLUMNS, KEY_COLUMNS)]
    split = table.find(SPLIT_COLUMNS)
    lists = table.columns[caption] == "raw"
    for number, fields in table.records({image: "image"}, tolerance=TOLERANCE, bare_commas=image == 0):
        where = f"{table.path}, line {number}"
        id, language, key = ("" if column is None else fields[column] for column in others)
        texts, ids = [fields[caption]], [id]
        if lists and fields[caption].startswith("["):
            texts = _texts(only_json(fields[caption], where), where)
            ids = _ids(only_json(id, where) if id.startswith("[") else "", len(texts))
        for text, id in zip(texts, ids):
            yield Caption(fields[image], text, id, language, key), None if split is None else fields[split]


def _json_layout(text: str, path: Path, columns: Columns) -> tuple[str, Iterable[Row]]:
    content, rest = first_json(text, str(path))
    if rest.startswith("{") or _is_record(content, columns):
        if _XM3600_KEY in content:
            return "xm3600", _xm3600_rows(text, path)
        return "json-lines", _record_rows(_objects(text, path), columns)
    if rest:
        content = only_json(text, str(path))
    images, paths, annotations = (_entries(content, key) for key in ("images", "image_paths", "annotations"))
    if images is not None and annotations is not None:
        return "coco", _coco_rows(images, annotations, path)
    if paths is not None and annotations is not None:
        return "image-paths", _image_path_rows(paths, annotations, path)
    if images and isinstance(images[0], dict) and "sentences" in images[0]:
        return "karpathy", _karpathy_rows(images, path)
    if isinstance(content, list) and content and isinstance(content[0], dict):
        entries = ((f"{path}, entry {place}", entry) for place, entry in enumerate(content))
        return "records", _record_rows(entries, columns)
    found = f"its keys are {listing(list(content))}" if isinstance(content, dict) else "it is a list"
    raise CaptionsError(
        f"{path} is JSON of an unknown layout: {found}. Known are COCO's (images with file_name, "
        "annotations with caption), Karpathy's (images with filename, sentences with raw), image_paths "
        "with annotations, and records with image and caption."
    )


def _is_record(content: Any, columns: Columns) -> bool:
    return isinstance(content, dict) and any(key.lower() in (_XM3600_KEY, *columns.image) for key in content)


def _objects(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in numbered_lines(text):
        where = f"{path}, line {number}"
        try:
            yield where, json.loads(line)
        except (ValueError, RecursionError):
            raise CaptionsError(f"{where} is not one JSON object. Mend that line.") from None


def _record_rows(entries: Iterable[tuple[str, Any]], columns: Columns) -> Iterator[Row]:
    for where, entry in entries:
        if not isinstance(entry, dict):
            raise CaptionsError(f"{where} is not a JSON object. Mend it.")
        entry = {key.lower(): value for key, value in entry.items()}
        for role, known, taken in (
            ("image", columns.image, columns.caption), ("caption", columns.caption, columns.image)
        ):
            if _first(entry, known) is None:
                raise CaptionsError(missing_column(role, known, list(entry), taken, where))
        image, caption, language, key, id, split = (
            _first(entry, known)
            for known in (columns.image, columns.caption, LANGUAGE_COLUMNS, KEY_COLUMNS, ID_COLUMNS, SPLIT_COLUMNS)
        )
        if not isinstance(image, str) or not image.strip():
            raise CaptionsError(f"{where} names no image. Mend or remove it.")
        texts = _texts(caption, where)
        for text, one in zip(texts, _ids(id, len(texts))):
            yield Caption(image.strip(), text, one, _plain(language), _plain(key)), _plain(split) or None


def _xm3600_rows(text: str, path: Path) -> Iterator[Row]:
    for where, entry in _objects(text, path):
        image = _field(entry, _XM3600_KEY, where)
        for language, value in entry.items():
            if isinstance(value, dict):
                for caption in _texts(_field(value, "caption", f"{where}, {language}", list), where):
                    yield Caption(image, caption, language=language), None


def _coco_rows(images: list[Any], annotations: list[Any], path: Path) -> Iterator[Row]:
    names = {}
    for number, image in enumerate(images):
        where = f"{path}, images[{number}]"
        names[_field(image, "id", where, (int, str))] = _field(image, "file_name", where)
    for number, annotation in enumerate(annotations):
        where = f"{path}, annotations[{number}]"
        image_id = _field(annotation, "image_id", where, (int, str))
        if image_id not in names:
            raise CaptionsError(f"{where} captions image {image_id!r}, which is not listed. Add or remove it.")
        text = _field(annotation, "caption", where).strip()
        yield Caption(names[image_id], text, _plain(annotation.get("id")), image_key=str(image_id)), None


def _karpathy_rows(images: list[Any], path: Path) -> Iterator[Row]:
    for number, image in enumerate(images):
        where = f"{path}, images[{number}]"
        name = _field(image, "filename", where)
        if "filepath" in image:
            name = posixpath.join(_field(image, "filepath", where), name)
        part = _field(image, "split", where) if "split" in image else None
        key = _plain(image.get("cocoid", image.get("imgid")))
        for place, sentence in enumerate(_field(image, "sentences", where, list)):
            text = _field(sentence, "raw", f"{where}.sentences[{place}]").strip()
            yield Caption(name, text, _plain(sentence.get("sentid")), image_key=key), part


def _image_path_rows(paths: list[Any], annotations: list[Any], path: Path) -> Iterator[Row]:
    if len(paths) != len(annotations):
        raise CaptionsError(f"{path} has {len(paths)} image_paths and {len(annotations)} annotations. Give as many.")
    match = re.search(r"-([a-z]{2,3})\.json$", path.name)
    language = LANGUAGE_CODES.get(match[1], match[1]) if match else ""
    for place, (image, annotation) in enumerate(zip(paths, annotations)):
        if not isinstance(image, str) or not image:
            raise CaptionsError(f"{path}, image_paths[{place}] is not a name. Mend that entry.")
        for text in _texts(annotation, f"{path}, annotations[{place}]"):
            yield Caption(image, text, language=language), None


def _entries(content: Any, key: str) -> list[Any] | None:
    entries = content.get(key) if isinstance(content, dict) else None
    return entries if isinstance(entries, list) else None


def _first(entry: dict[str, Any], known: Sequence[str]) -> Any:
    return next((entry[name] for name in known if entry.get(name) is not None), None)


def _field(entry: Any, key: str, where: str, kind: type | tuple[type, ...] = str) -> Any:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, kind):
        raise CaptionsError(f"{where} has no usable '{key}'. Mend that entry.")
    return value


def _texts(value: Any, where: str) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise CaptionsError(f"{where} has a caption that is not text. Mend it.")
    return [text.strip() for text in texts]


def _ids(value: Any, count: int) -> list[str]:
    """Return one id for each of a record's captions; an id of the record as a whole names none of several."""
    ids = value if isinstance(value, list) else [value]
    return [_plain(id) for id in ids] if len(ids) == count else [""] * count


def _plain(value: Any) -> str:
    return str(value) if isinstance(value, (int, str)) else ""
