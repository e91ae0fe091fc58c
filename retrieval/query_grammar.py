"""The grammar of queries: terms that are added and subtracted, as text.

    a dog on the beach                      words; nothing of this grammar is in it
    red car + ./like.jpg - truck            + and - between white space, so "C++" and "black-and-white" are words
    2:red car + 0.5:./like.jpg              weights, in front of terms that are added or subtracted
    "salt - pepper" + id:2019/rex.jpg       quotes make words of anything; id: names a stored document

A query of one term is that text as it stands, unless it is in quotes or begins with id:. An id that
holds a + or - between spaces goes in quotes, id:"a - b.jpg", unless it is an argument of its own.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Sequence

from retrieval.errors import QueryError

_JOINT = re.compile(r"(?:^|(?<=\s))[+-](?=\s|$)")
_WEIGHT = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+|nan|inf(?:inity)?)(?:e[+-]?\d+)?):\s*(?=\S)", re.IGNORECASE)
_SPACE = re.compile(r"\s*")
_ID = "id:"
_WHOLE_ID = re.compile(rf'(?:{_WEIGHT.pattern})?(?-i:{_ID})(?=[^\s"])', re.IGNORECASE)


@dataclass(frozen=True)
class Term:
    """What one term says. at: where it begins in the query, from 1.

    kind  "plain" (words, or an image file), "words" (was in quotes) or "id"
    """

    text: str
    weight: float = 1.0
    kind: str = "plain"
    at: int = 1


def terms(text: str, *, joined: bool = False) -> list[Term]:
    """The terms of a query; one, of weight 1, if nothing is added or subtracted.

    joined  it is an argument of its own in a composed query: even a single term may have a weight, and
            what begins with id: is one, whatever the id holds

    Raises QueryError, with the position, for quotes that are not closed, empty terms, and weights
    that are no finite number.
    """
    found: list[Term] = []
    sign, at = 1.0, _SPACE.match(text).end()
    if joined and _WHOLE_ID.match(text, at):
        return [_term(text[at:].rstrip(), sign, at, single=False)]
    while True:
        end, joint = _end_of_term(text, at)
        if not text[at:end].strip():
            raise _empty(text, found, joint)
        single = not found and joint is None and not joined
        found.append(_term(text[at:end].rstrip(), sign, at, single))
        if joint is None:
            return found
        sign = -1.0 if joint.group() == "-" else 1.0
        at = _SPACE.match(text, joint.end()).end()


def is_joint(argument: str) -> bool:
    """Whether an argument of its own joins its neighbours into one query."""
    return argument in ("+", "-")


def with_weights(found: Sequence[Term], weights: Sequence[float]) -> list[Term]:
    """The first terms with these weights in place of their own; a subtracted one stays subtracted.

    Raises QueryError for more weights than terms, or one that is no finite number.
    """
    if len(weights) > len(found):
        raise QueryError(
            f"There are {len(weights)} weights for the {len(found)} terms of the query; give one a term."
        )
    for number, weight in enumerate(weights, 1):
        if not math.isfinite(weight):
            raise QueryError(f"Weight {number} is {weight}; a weight has to be a finite number.")
    changed = [
        Term(one.text, math.copysign(1, one.weight) * weight, one.kind, one.at)
        for one, weight in zip(found, weights)
    ]
    return [*changed, *found[len(weights) :]]


def _end_of_term(text: str, at: int) -> tuple[int, re.Match | None]:
    """Where the term that begins at `at` ends, and the + or - behind it."""
    start = at
    prefix = _WEIGHT.match(text, at)
    start = prefix.end() if prefix else at
    start += len(_ID) if text.startswith(_ID, start) else 0
    if text.startswith('"', start):
        closing = text.find('"', start + 1)
        if closing < 0:
            raise QueryError(f"The quote at position {start + 1} of the query is not closed: {_near(text, start)}.")
        start = closing + 1
    joint = _JOINT.search(text, start)
    return (joint.start() if joint else len(text)), joint


def _term(text: str, sign: float, at: int, single: bool) -> Term:
    weight, kind, start = 1.0, "plain", 0
    prefix = None if single else _WEIGHT.match(text)
    if prefix:
        weight, start = float(prefix.group(1)), prefix.end()
        if not math.isfinite(weight):
            raise QueryError(
                f"The weight {prefix.group(1)} at position {at + 1} of the query is no finite number. "
                f'If these are words, put them in quotes: "{text}".'
            )
    body = text[start:]
    if body.startswith(_ID) and len(body) > len(_ID) and not body[len(_ID)].isspace():
        kind, body = "id", body[len(_ID) :]
    if body.startswith('"') and len(body) > 1 and body.find('"', 1) == len(body) - 1:
        if not body[1:-1].strip():
            raise QueryError(f"The quotes at position {at + start + 1} of the query are empty.")
        return Term(body[1:-1].strip(), sign * weight, "words" if kind == "plain" else kind, at + 1)
    if body.startswith('"') and not single:
        raise QueryError(
            f"Behind the closing quote at position {at + start + body.find(chr(34), 1) + 1} of the query "
            "there has to be + or -, with spaces around it."
        )
    return Term(body, sign * weight, kind, at + 1)


def _empty(text: str, found: Sequence[Term], joint: re.Match | None) -> QueryError:
    if not text.strip():
        return QueryError("The query is empty. Say what to look for, or give an image file.")
    if joint and not found:
        return QueryError(
            f"Nothing stands before the {joint.group()} at position {joint.start() + 1} of the query. "
            f'If it belongs to the words, put them in quotes: "{text.strip()}".'
        )
    end = joint.start() if joint else len(text)
    place = f"at position {end + 1}" if joint else "at the end"
    return QueryError(f"A term of the query is missing {place}: {_near(text, end)}.")


def _near(text: str, at: int) -> str:
    return "..." * (at > 20) + text[max(0, at - 20) : at + 20].strip() + "..." * (len(text) > at + 20)
