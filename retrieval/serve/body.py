"""The body of POST /search: queries and what is wanted of them, as JSON. A client writes it, the server reads it.

    {"queries": [{"text": "a dog"}, {"id": "2019/rex.jpg"}, {"image": BASE64},
                 {"terms": [{"text": "red car", "weight": 2}, {"id": "a.jpg", "weight": -1}], "shown": "red car - a"}],
     "k": 10, "in": "images", "where": "width > 100", "near": [48.858, 2.294, 5], "after": "2024", "before": "2025",
     "camera": "pixel", "folders": ["/photos/2019/"], "fusion": "sum", "templates": "auto", "calibrated": true,
     "min_score": "auto", "dedup": 0.93, "diverse": 0.7}

All but queries may be left out; each means what it means to `Collection.search`. shown is what results call
a query. No file can be named: the server must not tell strangers which there are.
"""

from __future__ import annotations

import json
import os
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from retrieval.corpus.found import INSIDE
from retrieval.errors import QueryError, reason_of
from retrieval.query import Query, text_query
from retrieval.types import IMAGES, SUM
from retrieval.wanted import AUTO, Refinement, Wanted
from retrieval.where import Filters

# What one request may ask, so that nobody keeps all others waiting.
MAX_QUERIES = 64
MAX_TERMS = 256  # of all queries together; a query that is not composed is one
MAX_IMAGES = 16  # among them
MAX_K = 1000
MAX_SPREAD_K = 100  # where images are compared with each other, which takes the square of it
LEAST_DEDUP = 0.8  # where most images are the same picture, all have to be looked through for k others
MAX_FOLDERS = 100
MAX_TEXT = 8192  # characters
MAX_BODY = 32 * 2**20  # bytes
_MAX_VALUES = 100_000  # of JSON, in which 3 bytes may become 60
UPLOADED = "(uploaded)"  # what results call an image that has no name


def bodies(queries: Sequence[Query], wanted: Wanted, filters: Filters = Filters()) -> Iterator[bytes]:
    """Which together ask all queries, in order; each holds as many as a server takes at once.

    filters  of which wanted.where was made

    Raises OSError for an image that cannot be read, ValueError for what cannot be asked so.
    """
    if wanted.where != filters.condition() or wanted.refinement.rerank is not None:
        raise ValueError("a search that JSON does not tell in full")
    beside = json.dumps(_beside(wanted, filters), allow_nan=False)
    asked: list[str] = []
    filled = 0.0  # of what a body may hold
    for query in queries:
        said = json.dumps(_said(query), allow_nan=False)
        share = _share(query, len(said) + len(beside))
        if asked and filled + share > 1:
            yield _joined(asked, beside)
            asked, filled = [], 0.0
        asked.append(said)
        filled += share
    if asked:
        yield _joined(asked, beside)


def read(content: bytes) -> tuple[list[Query], Wanted]:
    """What a body asks; images as the content of their files. Raises QueryError with what is wrong."""
    said = _checked(_parsed(content), _SEARCH)
    if "queries" not in said:
        raise QueryError('There are no queries. Say what to look for: {"queries": [{"text": "a dog"}], "k": 10}')
    _refuse_more(len(said["queries"]), MAX_QUERIES, "queries")
    queries = [_query(one, f"queries[{place}]") for place, one in enumerate(said["queries"])]
    singles = [single for query in queries for single in _singles(query)]
    _refuse_more(len(singles), MAX_TERMS, "terms in all")
    _refuse_more(sum(single.image is not None for single in singles), MAX_IMAGES, "images")
    filters = Filters(**{name: said[name] for name in _FILTERS if name in said})
    refinement = Refinement(said.get("min_score"), said.get("dedup"), said.get("diverse"))
    wanted = Wanted(
        said.get("k"), said.get("in", IMAGES), filters.condition(), said.get("fusion", SUM),
        said.get("templates", AUTO), said.get("calibrated", True), refinement,
    )
    refuse_large_k(wanted)
    if refinement.dedup is not None and refinement.dedup < LEAST_DEDUP:
        raise QueryError(f"dedup is {refinement.dedup}; this server takes {LEAST_DEDUP} and more.")
    return queries, wanted


def refuse_large_k(wanted: Wanted) -> None:
    """Raises QueryError for more results a query than a server gives."""
    spread = wanted.refinement.dedup is not None or wanted.refinement.diverse is not None
    most, how = (MAX_SPREAD_K, " with dedup or diverse") if spread else (MAX_K, "")
    if wanted.k is not None and wanted.k > most:
        raise QueryError(f"k is {wanted.k}; this server gives at most {most} results a query{how}.")


def _beside(wanted: Wanted, filters: Filters) -> dict[str, Any]:
    refinement = wanted.refinement
    said = {
        "k": wanted.k, "in": wanted.within, **asdict(filters), "fusion": wanted.fusion,
        "templates": wanted.templates, "calibrated": wanted.calibrated, "min_score": refinement.min_score,
        "dedup": refinement.dedup, "diverse": refinement.diverse,
    }
    return {name: value for name, value in said.items() if value not in (None, ())}


def _said(query: Query) -> dict[str, Any]:
    if query.fusion is not None:
        raise ValueError("a query with a fusion of its own")
    if query.terms:
        terms = [{**_said(term), "weight": weight} for weight, term in query.terms]
        for term in terms:
            term.pop("shown", None)
        return {"terms": terms, "shown": query.shown}
    if query.document is not None:
        return {"id": query.document, "shown": query.shown}
    if query.image is None:
        return {"text": query.shown}
    content = query.image.read_bytes() if isinstance(query.image, Path) else query.image
    if not isinstance(content, bytes):
        raise ValueError("an image without a file")
    return {"image": b64encode(content).decode(), "shown": query.shown}


def _share(query: Query, size: int) -> float:
    """How much of what a body may hold a query takes of that of which it takes most."""
    singles = [*_singles(query)]
    images = sum(single.image is not None for single in singles)
    return max(1 / MAX_QUERIES, len(singles) / MAX_TERMS, images / MAX_IMAGES, size / MAX_BODY)


def _joined(asked: Sequence[str], beside: str) -> bytes:
    return f'{{"queries": [{", ".join(asked)}], {beside[1:]}'.encode()


def _singles(query: Query) -> list[Query]:
    return [term for _, term in query.terms] or [query]


def _parsed(content: bytes) -> Any:
    if sum(content.count(mark) for mark in (b"[", b"{", b",")) > _MAX_VALUES:
        raise QueryError(f"The body holds too many values; {_MAX_VALUES} are read.")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise QueryError(f"The body is no JSON: {reason_of(error)}.") from error


def _query(value: Any, place: str) -> Query:
    said = _checked(value, _QUERY, place)
    kind = _only_kind(said, ("text", "id", "image", "terms"), place)
    if kind != "terms":
        return _single(kind, said, place)
    terms = []
    for number, one in enumerate(said["terms"]):
        inside = f"{place}.terms[{number}]"
        term = _checked(one, _TERM, inside)
        terms.append((float(term.get("weight", 1)), _single(_only_kind(term, tuple(_SINGLE), inside), term, inside)))
    shown = " + ".join(f"{weight:g}:{term.shown}" for weight, term in terms)
    return Query(said.get("shown", shown), terms=tuple(terms))


def _single(kind: str, said: Mapping[str, Any], place: str) -> Query:
    if kind == "text":
        if "shown" in said:
            raise QueryError(f"{place} is a text, which is shown as it is; leave out shown.")
        return text_query(said["text"])
    if kind == "id":
        return Query(said.get("shown", f"id:{said['id']}"), document=said["id"])
    try:
        return Query(said.get("shown", UPLOADED), b64decode(said["image"], validate=True))
    except ValueError as error:
        raise QueryError(f"{place}.image is no base64: {reason_of(error)}.") from error


def _only_kind(said: Mapping[str, Any], kinds: Sequence[str], place: str) -> str:
    given = [name for name in kinds if name in said]
    if len(given) != 1:
        raise QueryError(f"{place} needs one of {', '.join(kinds)}, and has {' and '.join(given) or 'none'}.")
    return given[0]


def _refuse_more(count: int, most: int, what: str) -> None:
    if count > most:
        raise QueryError(f"These are {count} {what}; ask at most {most} at once.")


@dataclass(frozen=True)
class _Kind:
    """What a value has to be."""

    words: str
    fits: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        return False
    return not any("\ud800" <= letter <= "\udfff" for letter in value)  # halves of pairs, as JSON may have them


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_place(value: Any) -> bool:
    return _is_text(value) or isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))


def _are_folders(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= MAX_FOLDERS and all(
        _is_text(one) and one.endswith(("/", os.sep, INSIDE)) for one in value
    )


_TEXT = _Kind(f"a text of at most {MAX_TEXT} characters of Unicode", _is_text)
_NUMBER = _Kind("a number", _is_number)
_LIST = _Kind("a list that is not empty", lambda value: isinstance(value, list) and len(value) > 0)
_SINGLE = {"text": _TEXT, "id": _TEXT, "image": _Kind("a text in base64", lambda value: isinstance(value, str))}
_TERM = {**_SINGLE, "weight": _NUMBER}
_QUERY = {**_SINGLE, "terms": _LIST, "shown": _TEXT}
_FILTERS = {
    "where": _TEXT,
    "near": _Kind("latitude, longitude and kilometres", _is_place),
    "after": _TEXT,
    "before": _TEXT,
    "camera": _TEXT,
    "folders": _Kind(f"a list of 1 to {MAX_FOLDERS} texts, each ending in / or {INSIDE}", _are_folders),
}
_SEARCH = {
    "queries": _LIST,
    "k": _Kind("a whole number", lambda value: isinstance(value, int) and _is_number(value)),
    "in": _TEXT,
    **_FILTERS,
    "fusion": _TEXT,
    "templates": _TEXT,
    "calibrated": _Kind("true or false", lambda value: isinstance(value, bool)),
    "min_score": _Kind(f"a number or {AUTO}", lambda value: value == AUTO or _is_number(value)),
    "dedup": _NUMBER,
    "diverse": _NUMBER,
}


def _checked(value: Any, kinds: Mapping[str, _Kind], place: str = "") -> dict[str, Any]:
    """An object with values of these kinds, and no others. place: where in the body, "" is all of it."""
    if not isinstance(value, dict):
        raise QueryError(f"{place or 'The body'} is {shortened(value)}; it has to be an object.")
    for name, one in value.items():
        if name not in kinds:
            known = ", ".join(kinds)
            raise QueryError(f"There is nothing called {shortened(name)} to {place or 'a search'}; use {known}.")
        if not kinds[name].fits(one):
            inside = f"{place}.{name}" if place else name
            raise QueryError(f"{inside} is {shortened(one)}; it has to be {kinds[name].words}.")
    return value
