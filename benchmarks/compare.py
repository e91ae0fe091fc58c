"""Before and after: two sets of result lines, matched case by case."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.case import BenchmarkError
from benchmarks.results import Line

_SAME = ("suite", "case", "contender", "settings", "mode", "threads", "device")


class Change(NamedTuple):
    """One contender's deciding metric. percent: the change; verdict: what it amounts to."""

    suite: str
    case: str
    contender: str
    unit: str
    before: float
    after: float
    percent: float
    verdict: str


def changes(before: Sequence[Line], after: Sequence[Line]) -> list[Change]:
    """Every contender that both sides measured in the same way; of several lines the last counts.

    verdict  "better" or "worse" where the two spreads of repeats do not overlap, otherwise
             "within spread"; "one repeat" where a side has no spread to judge by
    """
    earlier, later = _by_identity(before), _by_identity(after)
    return [_change(earlier[key], later[key]) for key in earlier if key in later]


def unmatched(before: Sequence[Line], after: Sequence[Line]) -> int:
    """How many contenders only one side measured, or measured in another way."""
    return len(_by_identity(before).keys() ^ _by_identity(after).keys())


def of_commit(lines: Sequence[Line], commit: str) -> list[Line]:
    """The lines of a commit, given by the beginning of its hash.

    Raises BenchmarkError if there are none, or if it could be several commits.
    """
    found = [line for line in lines if str(line.get("commit", "")).startswith(commit)]
    hashes = sorted({line["commit"] for line in found})
    if len(hashes) != 1:
        known = ", ".join(dict.fromkeys(str(line.get("commit")) for line in lines)) or "none"
        what = "is ambiguous" if hashes else "has no results there"
        raise BenchmarkError(f"Commit {commit} {what}. Commits in the file: {known}.")
    return found


def _by_identity(lines: Sequence[Line]) -> dict[str, Line]:
    return {json.dumps([line.get(field) for field in _SAME], sort_keys=True): line for line in lines}


def _change(before: Line, after: Line) -> Change:
    unit = after["unit"]
    old, new = before["metrics"][unit], after["metrics"][unit]
    percent = 100 * (new - old) / old if old else float("nan")
    return Change(
        after["suite"], after["case"], after["contender"], unit, old, new, percent,
        _verdict(before, after),
    )


def _verdict(before: Line, after: Line) -> str:
    if min(before["repeats"], after["repeats"]) < 2:
        return "one repeat"
    unit, better = after["unit"], after["better"]
    before, after = before["spread"][unit], after["spread"][unit]  # [least, most]
    if after[0] > before[1]:
        return "better" if better == "higher" else "worse"
    if after[1] < before[0]:
        return "worse" if better == "higher" else "better"
    return "within spread"
