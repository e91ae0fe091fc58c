"""Many queries, one a line: read, embedded and answered in batches, with a bounded number in memory.

    a dog on the beach
    red car + ./like.jpg - truck
    {"query": "a dog", "k": 3, "where": "taken >= 2024"}
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Callable, Iterable, Iterator, Sequence

from retrieval.collection import Collection
from retrieval.conditions import Condition, all_of
from retrieval.errors import QueryError
from retrieval.query import Query, parse
from retrieval.wanted import Wanted
from retrieval.types import Hit
from retrieval.where import every

AT_ONCE = 256  # queries
_KEYS = ("query", "k", "where")
_MARK = "\ufeff"  # that Windows' editors begin a file with; where files were joined it stands between them


@dataclass(frozen=True)
class Asked:
    """What a line asks; line from 1."""

    line: int
    query: Query
    k: int
    where: Condition | None


def answer(
    collection: Collection, lines: Iterable[str], wanted: Wanted, refused: Callable[[int, QueryError], None],
    progress: Callable[[int], None] = lambda count: None,
) -> Iterator[tuple[Asked, list[Hit]]]:
    """What each line asks and its hits, in order; empty lines are none.

    refused  told the number of a line, from 1, that cannot be asked, and why; the others go on
    progress told how many lines have been dealt with since it was last called
    """
    bare = (line.removeprefix(_MARK) for line in lines)
    numbered = ((number, line) for number, line in enumerate(bare, 1) if line.strip())
    while batch := list(islice(numbered, AT_ONCE)):
        asked = []
        for number, line in batch:
            try:
                asked.append(_asked(collection, number, line, wanted))
            except QueryError as error:
                refused(number, error)
        yield from _answered(collection, asked, wanted, refused)
        progress(len(batch))


def _asked(collection: Collection, number: int, line: str, wanted: Wanted) -> Asked:
    said = _said(line)
    conditions = [one for one in (wanted.where, every(said.get("where"))) if one]
    k = collection.checked_k(said.get("k", wanted.k), wanted.within)
    return Asked(number, parse(said["query"]), k, all_of(conditions) if conditions else None)


def _said(line: str) -> dict[str, Any]:
    """What a line says: an object of JSON, or a query as it stands."""
    if not line.lstrip().startswith("{"):
        return {"query": line}
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return {"query": line}  # words in braces
    unknown = [key for key in said if key not in _KEYS]
    if unknown:
        raise QueryError(f"There is nothing called {unknown[0]!r} to a query; use {', '.join(_KEYS)}.")
    for key, kind, words in (("query", str, "a text"), ("where", str, "a text"), ("k", int, "a whole number")):
        if key in said and (not isinstance(said[key], kind) or isinstance(said[key], bool)):
            raise QueryError(f"{key} is {json.dumps(said[key])}; it has to be {words}.")
    if "query" not in said:
        raise QueryError('An object needs a "query".')
    return said


def _answered(
    collection: Collection, asked: Sequence[Asked], wanted: Wanted, refused: Callable[[int, QueryError], None]
) -> Iterator[tuple[Asked, list[Hit]]]:
    if not asked:
        return
    try:
        answers = _hits(collection, asked, wanted)
    except QueryError as error:
        if len(asked) == 1:
            refused(asked[0].line, error)
            return
        half = len(asked) // 2
        for part in (asked[:half], asked[half:]):  # to find out which it is
            yield from _answered(collection, part, wanted, refused)
        return
    yield from zip(asked, answers)


def _hits(collection: Collection, asked: Sequence[Asked], wanted: Wanted) -> list[list[Hit]]:
    """Of each. Raises QueryError if one cannot be asked."""
    vectors = collection.query_vectors([one.query for one in asked], wanted)
    groups: dict[tuple, list[int]] = {}
    for place, one in enumerate(asked):
        groups.setdefault((one.k, one.where), []).append(place)
    answers: dict[int, list[Hit]] = {}
    for (k, where), places in groups.items():
        queries = [asked[place].query for place in places]
        found = collection.search_each(queries, vectors[places], replace(wanted, k=k, where=where))
        answers |= zip(places, found)
    return [answers[place] for place in range(len(asked))]
