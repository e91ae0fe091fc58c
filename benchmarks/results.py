"""The results file: one JSON line for each contender of each case, appended when a case ends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.case import BenchmarkError

FOLDER = Path(__file__).with_name("results")
FULL = FOLDER / "full.jsonl"
QUICK = FOLDER / "quick.jsonl"

Line = dict[str, Any]

_FIELDS = {"suite", "case", "contender", "metrics", "spread", "unit", "better", "mode",
           "repeats", "line_up", "left_out"}


def read(path: Path) -> list[Line]:
    """Every line, in order; none if there is no file. An unfinished last line is not counted.

    Raises BenchmarkError on a line that is no result.
    """
    if not path.exists():
        return []
    *whole, last = path.read_text(encoding="utf-8").split("\n")
    lines = [_parsed(text, path, number) for number, text in enumerate(whole, 1) if text]
    return lines + ([json.loads(last)] if last and _is_json(last) else [])


def append(path: Path, lines: Iterable[Line]) -> None:
    """Add lines, all in one write, and have them on the disk before returning.

    What a killed run left of a line is cut off first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    with path.open("a+b") as file:
        file.seek(0)
        content = file.read()
        rest = content[content.rfind(b"\n") + 1 :]
        if rest:
            if _is_json(rest.decode("utf-8", "replace")):
                text = "\n" + text
            else:
                file.truncate(len(content) - len(rest))
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def is_measured(lines: Iterable[Line], key: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Whether a case has been measured with at least these contenders.

    key  the fields that must be equal: what was measured, of which commit, how, and where
    """
    key = as_json(key)
    same = [line for line in lines if all(line.get(field) == value for field, value in key.items())]
    measured = {line["contender"] for line in same}
    return any(
        set(names) <= {*line["line_up"], *line["left_out"]} and set(line["line_up"]) <= measured
        for line in same
    )


def as_json(content: Any) -> Any:
    """What comes back from the file: tuples as lists, keys as strings."""
    return json.loads(json.dumps(content))


def _parsed(text: str, path: Path, number: int) -> Line:
    try:
        line = json.loads(text)
    except ValueError:
        line = None
    if not isinstance(line, dict) or not _FIELDS <= line.keys():
        raise BenchmarkError(
            f"{path}, line {number} is not a benchmark result. Name a file that "
            "`python -m benchmarks run` wrote, or delete that line."
        )
    return line


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
