"""Text files of records: a table with a header, or JSON. What is wrong with one is said by line."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from retrieval.errors import CaptionsError

DELIMITERS = {"\t": "tab", "|": "pipe", ";": "semicolon", ",": "comma"}


def read_text(path: Path, kind: str = "captions file") -> str:
    """Read UTF-8, with or without a byte-order mark. Raises CaptionsError, also if it is blank."""
    if path.is_dir():
        raise CaptionsError(f"{path} is a folder. Give the {kind} itself.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise CaptionsError(f"There is no {kind} {path}. Check the path.") from None
    except OSError as error:
        raise CaptionsError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise CaptionsError(f"{path} is not UTF-8 text (line {line}). Save it as UTF-8.") from None
    if not text.strip():
        raise CaptionsError(f"{path} is empty. Give a {kind} with content.")
    return text


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number, line) of the lines that are not blank, without their ends."""
    for number, line in enumerate(io.StringIO(text, newline=None), 1):  # other separators are text
        if line.strip():
            yield number, line.rstrip("\n")


def first_json(text: str, where: str) -> tuple[Any, str]:
    """Return the first JSON value of the text, and the text after it. Raises CaptionsError."""
    start = len(text) - len(text.lstrip())
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise CaptionsError(
            f"{where} is not valid JSON: {error.msg}, line {error.lineno}, column {error.colno}. Mend it there."
        ) from None
    except (ValueError, RecursionError) as error:  # absurd numbers or nesting
        raise CaptionsError(f"{where} cannot be read: {error}.") from None
    return value, text[end:].strip()


def only_json(text: str, where: str) -> Any:
    """Return the text's one JSON value. Raises CaptionsError."""
    value, rest = first_json(text, where)
    if rest:
        raise CaptionsError(f"{where} is not valid JSON: {rest[:20]!r} follows its end. Remove what follows.")
    return value


def listing(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(f"'{name[:40]}'" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def missing_column(role: str, known: Sequence[str], columns: Sequence[str], taken: Sequence[str], where: str) -> str:
    """Say that none of the columns has a `known` name; offer the nearest that is not `taken` otherwise."""
    strangers = [name for name in columns if name not in taken and name not in known]
    near = next((name for name in strangers if difflib.get_close_matches(name, known)), None)
    advice = f"Rename '{near}' to '{role}'." if near else f"Name one of them {' or '.join(known)}."
    return f"{where} has no {role} column; its header reads {listing(columns)}. {advice}"


class Table:
    """A header, then one record a line; the first of tab, pipe, semicolon, comma in the header parts them.

    Between tabs or pipes quotation marks are text; between commas or semicolons they are CSV quotes.

    columns    the header, in lower case
    malformed  lines that `records` passed over, such as "line 20001 has 2 fields, the header 3"
    """

    def __init__(self, text: str, path: Path) -> None:
        self.path = path
        self.malformed: list[str] = []
        self._text = text
        _, header = next(numbered_lines(text))
        self._delimiter = next((mark for mark in DELIMITERS if mark in header), ",")
        self._quoting = csv.QUOTE_MINIMAL if self._delimiter in ",;" else csv.QUOTE_NONE
        _, columns = next(self._lines())
        self.columns = [column.lower() for column in columns]

    def find(self, known: Sequence[str]) -> int | None:
        """Return the column with the first of these names that is there."""
        return next((self.columns.index(name) for name in known if name in self.columns), None)

    def column(self, role: str, known: Sequence[str], taken: Sequence[str] = ()) -> int:
        """`find`, or else CaptionsError; columns named in `taken` are not offered as a near miss."""
        found = self.find(known)
        if found is None:
            raise CaptionsError(missing_column(role, known, self.columns, taken, str(self.path)))
        return found

    def records(
        self, needed: dict[int, str], *, tolerance: float = 0.0, bare_commas: bool = False
    ) -> Iterator[tuple[int, list[str]]]:
        """Yield (line number, fields) of the well-formed lines.

        needed       columns that may not be blank, and what they name
        tolerance    one malformed line is passed over, and more up to this fraction of all lines
        bare_commas  the last of two columns may hold commas that nobody quoted

        Raises CaptionsError, at the end, if more lines are malformed: the table is being misread.
        """
        bare = bare_commas and self._delimiter == "," and len(self.columns) == 2 and self._has_bare_commas()
        lines = self._halves() if bare else self._lines()
        next(lines)  # the header
        count = 0
        for count, (number, fields) in enumerate(lines, 1):
            blank = next((what for column, what in needed.items() if not "".join(fields[column : column + 1])), None)
            if len(fields) != len(self.columns):
                several = "s" * (len(fields) != 1)
                self.malformed.append(f"line {number} has {len(fields)} field{several}, the header {len(self.columns)}")
            elif blank:
                self.malformed.append(f"line {number} names no {blank}")
            else:
                yield number, fields
        allowed = max(1, tolerance * count) if tolerance else 0
        if len(self.malformed) > allowed:
            raise CaptionsError(self._refusal(count))

    def _refusal(self, lines: int) -> str:
        quoted = " unless it is quoted" if self._quoting == csv.QUOTE_MINIMAL else ""
        rule = f"A caption may hold no {DELIMITERS[self._delimiter]}{quoted}."
        others = len(self.malformed) - 1
        also = f"; so it is with {others} more of its {lines:,} lines" if others else ""
        advice = rule if "the header" in self.malformed[0] else "Mend or remove that line."
        return f"{self.path}, {self.malformed[0]}{also}. {advice}"

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(
            io.StringIO(self._text, newline=""),
            delimiter=self._delimiter, quoting=self._quoting, skipinitialspace=True, strict=True,
        )
        try:
            for fields in reader:
                fields = [field.strip() for field in fields]
                if any(fields):
                    yield reader.line_num, fields
        except csv.Error as error:
            raise CaptionsError(
                f"{self.path}, line {reader.line_num}: {error}. Quote that caption as CSV does."
            ) from None

    def _has_bare_commas(self) -> bool:
        """Whether a line without any quotation mark has a comma too many before CSV itself fails."""
        try:
            return any(len(fields) > 2 and '"' not in "".join(fields) for _, fields in self._lines())
        except CaptionsError:
            return False

    def _halves(self) -> Iterator[tuple[int, list[str]]]:
        """Part every line at its first comma; quotation marks are text unless they enclose the rest."""
        for number, line in numbered_lines(self._text):
            halves = [half.strip() for half in line.split(",", 1)]
            if halves[-1].startswith('"'):
                try:
                    quoted = next(csv.reader([halves[-1]], strict=True))
                except csv.Error:
                    quoted = []
                halves[-1] = quoted[0].strip() if len(quoted) == 1 else halves[-1]
            yield number, halves
