"""Conditions on documents, as SQL with bound values: what is typed never becomes part of a statement.

Each comparison is true or false: of what is not known, such as the camera of a drawing, every
comparison is false but != and !~, and `not` turns that round.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Callable, Sequence

from retrieval.dates import span

EARTH_KM = 6371.0088  # mean radius, IUGG
_LONGEST = 10_000  # characters of a value; SQLite's own limit of a pattern is 50,000 bytes
_LARGEST = 2**63 - 1  # that SQLite keeps as an integer
_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_SIZE = re.compile(r"(?P<number>\d+(\.\d*)?|\.\d+)\s*(?P<unit>[kmgt]i?|)b?", re.IGNORECASE)
_MIRRORED = {"!=": "=", "!~": "~"}
EQUALITY, ORDER, CONTAINS = ("=", "!="), ("<", "<=", ">", ">="), ("~", "!~")
OPERATORS = (*EQUALITY, *ORDER, *CONTAINS)


@dataclass(frozen=True)
class Condition:
    """A truth of one row of `documents`. sql has a ? for each of the values."""

    sql: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True)
class _Field:
    column: str
    operators: tuple[str, ...]
    compare: Callable[[str, str, str], Condition]  # column, operator without "not", value


def all_of(conditions: Sequence[Condition]) -> Condition:
    return _joined(conditions, "AND")


def any_of(conditions: Sequence[Condition]) -> Condition:
    return _joined(conditions, "OR")


def negated(condition: Condition) -> Condition:
    return Condition(f"NOT {condition.sql}", condition.values)


def compare(field: str, operator: str, value: str) -> Condition:
    """field operator value, of FIELDS and OPERATORS. Raises ValueError with the reason in words."""
    known = FIELDS[field]
    if operator not in known.operators:
        raise ValueError(f"{field} cannot be compared with {operator}; use one of {' '.join(known.operators)}")
    if len(value) > _LONGEST:
        raise ValueError(f"the value has {len(value):,} characters, and {_LONGEST:,} can be compared")
    bare = _MIRRORED.get(operator, operator)
    found = known.compare(known.column, bare, value)
    found = Condition(f"COALESCE({found.sql}, 0)", found.values)
    return found if bare == operator else negated(found)


def unknown(field: str) -> Condition:
    """Whether nothing is known of it. Raises ValueError for a field that is always known."""
    if field == "caption":
        return Condition("NOT EXISTS (SELECT 1 FROM captions WHERE document = documents.key)")
    if field in ("id", "path", "size", "modified"):
        raise ValueError(f"every image has {'an id' if field == 'id' else 'a ' + field}")
    return Condition(f"({FIELDS[field].column} IS NULL)")


def within_km(lat: float, lon: float, km: float) -> Condition:
    """Pictures taken at most so far from a place in degrees, along the surface of a sphere.

    A box of latitudes and longitudes leaves out most before the haversine formula looks closer.
    Raises ValueError for a place that is not on Earth.
    """
    lat, lon, km = float(lat), float(lon), float(km)
    if not -90 <= lat <= 90 or not -180 <= lon <= 180:  # NaN neither
        raise ValueError(f"{lat:g}, {lon:g} is no place: latitudes go from -90 to 90, longitudes from -180 to 180")
    if not 0 < km < math.inf:
        raise ValueError(f"the distance {km:g} km has to be positive")
    angle = math.degrees(km / EARTH_KM) * 1.000001  # of rounding the box knows nothing
    boxes = [Condition("documents.lat BETWEEN ? AND ?", (lat - angle, lat + angle))]
    if abs(lat) + angle < 90:  # else a pole, and with it every longitude, is near
        half = math.degrees(math.asin(min(1.0, math.sin(math.radians(angle)) / math.cos(math.radians(lat)))))
        west, east = lon - half, lon + half
        spans = [(west, east)]
        if west < -180:
            spans = [(west + 360, 180), (-180, east)]
        elif east > 180:
            spans = [(west, 180), (-180, east - 360)]
        boxes.append(any_of([Condition("documents.lon BETWEEN ? AND ?", one) for one in spans]))
    box = all_of(boxes)
    # AND would compute the distance of what lies outside, too.
    exact = f"CASE WHEN {box.sql} THEN km_between(documents.lat, documents.lon, ?, ?) <= ? ELSE 0 END"
    return Condition(exact, (*box.values, lat, lon, km))


def in_folder(places: Sequence[str]) -> Condition:
    """Paths that begin with one of these. The catalogue's index of paths finds them."""
    return any_of([
        Condition("(documents.path >= ? AND documents.path < ?)", (place, place[:-1] + chr(ord(place[-1]) + 1)))
        for place in places
    ])


def add_functions(db: Any) -> None:
    """Make known to an SQLite connection what conditions use."""
    db.create_function("km_between", 4, _km_between, deterministic=True)
    db.create_function("folded_contains", 2, _folded_contains, deterministic=True)


def _joined(conditions: Sequence[Condition], word: str) -> Condition:
    if len(conditions) == 1:
        return conditions[0]
    sql = f" {word} ".join(one.sql for one in conditions)
    return Condition(f"({sql})", tuple(value for one in conditions for value in one.values))


def _km_between(lat: float | None, lon: float | None, other_lat: float, other_lon: float) -> float | None:
    """The haversine formula (Sinnott 1984)."""
    if lat is None or lon is None:
        return None
    north, east = math.radians(other_lat - lat) / 2, math.radians(other_lon - lon) / 2
    narrowing = math.cos(math.radians(lat)) * math.cos(math.radians(other_lat))
    square = math.sin(north) ** 2 + narrowing * math.sin(east) ** 2
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(square)))


def _folded_contains(text: str | None, part: str) -> bool | None:
    return None if text is None else part in _folded(text)


def _folded(text: str) -> str:
    """Alike whatever the case, and however accents are written: macOS takes names apart, e and its accent."""
    return unicodedata.normalize("NFC", text.casefold())


def _text(column: str, operator: str, value: str) -> Condition:
    if operator == "=":
        return Condition(f"{column} = ?", (value,))
    folded = _folded(value)
    contains = f"folded_contains({column}, ?)"
    if not folded.isascii():
        return Condition(contains, (folded,))
    # SQLite's own LIKE is faster, and right where column holds ASCII: as many bytes as characters.
    escaped = re.sub(r"([\\%_])", r"\\\1", folded)
    is_ascii = f"length(CAST({column} AS BLOB)) = length({column})"
    return Condition(
        f"CASE WHEN {is_ascii} THEN {column} LIKE ? ESCAPE '\\' ELSE {contains} END", (f"%{escaped}%", folded)
    )


def _caption(column: str, operator: str, value: str) -> Condition:
    one = _text("captions.text", operator, value)
    return Condition(f"EXISTS (SELECT 1 FROM captions WHERE document = documents.key AND {one.sql})", one.values)


def _number(column: str, operator: str, value: str) -> Condition:
    if not _NUMBER.fullmatch(value):
        raise ValueError(f"{value!r} is no number")
    return Condition(f"{column} {operator} ?", (float(value),))


def _size(column: str, operator: str, value: str) -> Condition:
    match = _SIZE.fullmatch(value)
    if match is None:
        raise ValueError(f"{value!r} is no size; write bytes, or 200kB, 10MB, 1.5GB")
    bytes_ = float(match["number"]) * _SIZES[match["unit"].lower()]
    return Condition(f"{column} {operator} ?", (min(bytes_, float(_LARGEST)),))


def _taken(column: str, operator: str, value: str) -> Condition:
    """ISO 8601 in local time, as the camera wrote it: such texts are ordered as their times are."""
    start, end = (one.isoformat(timespec="seconds") for one in span(value))
    return _in_span(column, operator, start, end)


def _modified(column: str, operator: str, value: str) -> Condition:
    return _in_span(column, operator, *map(_nanoseconds, span(value)))


def _in_span(column: str, operator: str, start: Any, end: Any) -> Condition:
    """Of a time that is no instant but lasts: later than 2024 is what begins when 2024 has ended."""
    if operator == "=":
        return Condition(f"({column} >= ? AND {column} < ?)", (start, end))
    sign, value = {"<": ("<", start), ">=": (">=", start), "<=": ("<", end), ">": (">=", end)}[operator]
    return Condition(f"{column} {sign} ?", (value,))


def _nanoseconds(time: datetime) -> int:
    try:
        seconds = time.timestamp()
    except (OverflowError, OSError, ValueError):  # beyond what the system's clock knows
        seconds = time.replace(tzinfo=timezone.utc).timestamp()
    return max(-_LARGEST, min(_LARGEST, int(seconds) * 10**9))


_TEXTS = (*EQUALITY, *CONTAINS)
_ORDERED = (*EQUALITY, *ORDER)
FIELDS = {
    "id": _Field("documents.id", _TEXTS, _text),
    "path": _Field("documents.path", _TEXTS, _text),
    "taken": _Field("documents.taken_at", _ORDERED, _taken),
    "modified": _Field("documents.mtime_ns", _ORDERED, _modified),
    "camera": _Field("documents.camera", _TEXTS, _text),
    "width": _Field("documents.width", _ORDERED, _number),
    "height": _Field("documents.height", _ORDERED, _number),
    "size": _Field("documents.size", _ORDERED, _size),
    "lat": _Field("documents.lat", _ORDERED, _number),
    "lon": _Field("documents.lon", _ORDERED, _number),
    "caption": _Field("captions.text", _TEXTS, _caption),
}
