"""The grammar of filters: `taken >= 2024-06 and camera ~ 'Pixel' and not path ~ 'beach'`.

    any       = all {"or" all}
    all       = one {"and" one}
    one       = "not" one | "(" any ")" | field operator value | field ["not"] "in" "(" value {"," value} ")"
    field     = id path taken modified camera width height size lat lon caption
    operator  = = != < <= > >= ~ !~          ~ contains, whatever the case; !~ does not
    value     a word, a number, a date, or anything in '' or "" (a quote within is written twice)

Dates are 2024, 2024-06, 2024-06-01 or 2024-06-01T12:30, and mean all that time: taken = 2024 is
the whole year, taken > 2024 what came after it. Sizes may have a unit, 10MB. The value none asks
what is not known: lat = none. Where nothing is known every comparison is false, but != and !~.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Sequence

from retrieval.conditions import (
    EQUALITY, FIELDS, OPERATORS, Condition, all_of, any_of, compare, in_folder, negated, unknown, within_km,
)
from retrieval.errors import QueryError

_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")|(?P<operator>!=|!~|<=|>=|==|=|<|>|~)"""
    r"""|(?P<mark>[(),])|(?P<word>[^\s()=!<>~,'"]+))"""
)
_SURROGATE = re.compile("[\ud800-\udfff]")  # bytes of an argument that are not UTF-8
_KEYWORDS = ("and", "or", "not", "in")
_DEEPEST = 50  # of parentheses
_MOST = 500  # comparisons; SQLite's own limit is 1,000 levels of an expression


@dataclass(frozen=True)
class _Token:
    """kind: quoted, operator, mark or word, or "end"; at: its position, from 1."""

    kind: str
    text: str
    at: int

    @property
    def keyword(self) -> str | None:
        return self.text.lower() if self.kind == "word" and self.text.lower() in _KEYWORDS else None


def parse(text: str) -> Condition:
    """The condition that a filter states. Raises QueryError with the position of what is wrong."""
    return _Parser(_tokens(text)).whole()


def parse_near(text: str) -> Condition:
    """LAT,LON,KM in degrees and kilometres. Raises QueryError."""
    parts = text.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != 3:
        raise QueryError(f"{text!r} is no place and distance; write latitude,longitude,kilometres: 48.858,2.294,5")
    return near(*numbers)


def near(lat: float, lon: float, km: float) -> Condition:
    """`retrieval.conditions.within_km`. Raises QueryError."""
    try:
        return within_km(lat, lon, km)
    except (ValueError, TypeError) as error:
        raise _sentence(f"The place cannot be searched: {error}") from error


def every(
    where: str | Condition | None = None, *, near_to: Sequence[float] | str | None = None, after: str | None = None,
    before: str | None = None, camera: str | None = None, folders: Sequence[str] = (),
) -> Condition | None:
    """All of these together; None if there are none.

    where    a filter of this grammar, or what one was made into
    near_to  (latitude, longitude, kilometres), or as a text
    after    a date: taken since its first instant
    before   a date: taken before its first instant
    camera   what its name contains
    folders  how paths may begin

    Raises QueryError.
    """
    found: list[Condition] = []
    if where is not None:
        found.append(where if isinstance(where, Condition) else parse(where))
    if near_to is not None:
        found.append(parse_near(near_to) if isinstance(near_to, str) else _near_of(near_to))
    for name, field, operator, value in (
        ("date of after", "taken", ">=", after), ("date of before", "taken", "<", before), ("camera", "camera", "~", camera),
    ):
        if value is not None:
            try:
                found.append(compare(field, operator, value))
            except ValueError as error:
                raise _sentence(f"The {name} cannot be used: {error}") from error
    if folders:
        found.append(in_folder(folders))
    if not found:
        return None
    condition = all_of(found)
    for value in condition.values:
        if isinstance(value, str) and _SURROGATE.search(value):
            raise QueryError(f"The filter holds {value!r}, which is not valid Unicode.")
    return condition


@dataclass(frozen=True)
class Filters:
    """What `every` takes, as it was said: where a condition, which is SQL, must not go."""

    where: str | None = None
    near: Sequence[float] | str | None = None
    after: str | None = None
    before: str | None = None
    camera: str | None = None
    folders: Sequence[str] = ()

    def condition(self) -> Condition | None:
        """Raises QueryError."""
        return every(
            self.where, near_to=self.near, after=self.after, before=self.before, camera=self.camera,
            folders=self.folders,
        )


def _near_of(place: Sequence[float]) -> Condition:
    try:
        lat, lon, km = place
    except (TypeError, ValueError):
        raise QueryError(f"near is {place!r}; it has to be (latitude, longitude, kilometres).") from None
    return near(lat, lon, km)


class _Parser:
    """Recursive descent: one method a line of the grammar."""

    def __init__(self, tokens: Sequence[_Token]):
        self._tokens = list(tokens)
        self._place = self._depth = self._comparisons = 0

    def whole(self) -> Condition:
        if self._token.kind == "end":
            raise QueryError("The filter is empty. State a condition: taken >= 2024-06 and width > 1000")
        found = self._any()
        if self._token.kind != "end":
            raise _wrong(self._token, "expected and, or, or the end")
        return found

    def _any(self) -> Condition:
        return any_of(self._several(self._all, "or"))

    def _all(self) -> Condition:
        return all_of(self._several(self._one, "and"))

    def _several(self, part, keyword: str) -> list[Condition]:
        parts = [part()]
        while self._token.keyword == keyword:
            self._next()
            parts.append(part())
        return parts

    def _one(self) -> Condition:
        negates, opens = self._token.keyword == "not", self._is_mark("(")
        if not negates and not opens:
            return self._comparison()
        if self._depth == _DEEPEST:
            raise _wrong(self._token, f"parentheses and nots are nested more than {_DEEPEST} deep")
        self._depth += 1
        first = self._next()
        if negates:
            found = negated(self._one())
        else:
            found = self._any()
            self._expect(")", f"the parenthesis at position {first.at} is not closed")
        self._depth -= 1
        return found

    def _comparison(self) -> Condition:
        field = self._field()
        operator = self._next()
        if operator.keyword == "not":
            behind = self._next()
            if behind.keyword != "in":
                raise _wrong(behind, "expected in")
            return negated(any_of(self._list(field)))
        if operator.keyword == "in":
            return any_of(self._list(field))
        if operator.kind != "operator":
            raise _wrong(operator, f"expected one of {' '.join(OPERATORS)} or in, behind {field}")
        return self._compared(field, "=" if operator.text == "==" else operator.text)

    def _list(self, field: str) -> list[Condition]:
        self._expect("(", "expected a list, such as (1, 2)")
        found = [self._compared(field, "=")]
        while self._is_mark(","):
            self._next()
            found.append(self._compared(field, "="))
        self._expect(")", "the list is not closed; expected , or )")
        return found

    def _field(self) -> str:
        token = self._next()
        name = token.text.lower()
        if token.kind != "word" or token.keyword:
            raise _wrong(token, "expected a field, such as taken")
        if name not in FIELDS:
            alike = get_close_matches(name, FIELDS, 1, 0.5)
            meant = f". Did you mean {alike[0]}? The fields are " if alike else "; the fields are "
            raise _wrong(token, f"there is no field {token.text}{meant}{', '.join(FIELDS)}")
        return name

    def _compared(self, field: str, operator: str) -> Condition:
        value = self._next()
        if value.kind not in ("word", "quoted"):
            raise _wrong(value, f"expected a value behind {operator}")
        self._comparisons += 1
        if self._comparisons > _MOST:
            raise QueryError(f"The filter has more than {_MOST} comparisons; split it up.")
        try:
            if value.kind == "word" and value.text.lower() == "none" and operator in EQUALITY:
                return unknown(field) if operator == "=" else negated(unknown(field))
            return compare(field, operator, value.text)
        except ValueError as error:
            raise _wrong(value, str(error)) from error

    @property
    def _token(self) -> _Token:
        return self._tokens[self._place]

    def _next(self) -> _Token:
        token = self._token
        self._place = min(self._place + 1, len(self._tokens) - 1)
        return token

    def _is_mark(self, mark: str) -> bool:
        return self._token.kind == "mark" and self._token.text == mark

    def _expect(self, mark: str, otherwise: str) -> None:
        if not self._is_mark(mark):
            raise _wrong(self._token, otherwise)
        self._next()


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            if text[at] in "'\"":
                raise QueryError(f"The quote at position {at + 1} of the filter is not closed: {text[at : at + 30]}")
            raise QueryError(f"The filter cannot be understood at position {at + 1}: {text[at : at + 10]}")
        kind = match.lastgroup
        word = match[kind]
        if kind == "quoted":
            word = word[1:-1].replace(word[0] * 2, word[0])
        tokens.append(_Token(kind, word, match.start(kind) + 1))
        at = match.end()
    return [*tokens, _Token("end", "", len(text) + 1)]


def _wrong(token: _Token, what: str) -> QueryError:
    found = f", found {token.text}" if what.startswith("expected") and token.kind != "end" else ""
    place = "at its end" if token.kind == "end" else f"at position {token.at}"
    return _sentence(f"The filter cannot be understood {place}: {what}{found}")


def _sentence(text: str) -> QueryError:
    return QueryError(f"{text}.")
