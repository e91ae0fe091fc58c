"""One module a suite. A new file here is a new suite; nothing else needs to know of it.

A suite module has a docstring, whose first line becomes its heading, and

    cases(quick)   the list of its cases; cheap, for every command calls it
    SHOWN          metrics that the report's table shows beside the deciding one
    plotted(line)  optional: (series, x, y) of a result line, or None
    PLOT           with plotted: (title, label of x, label of y)

It imports libraries inside its contenders only: each runs in a process of its own, and what the
runner had loaded would count as the contender's memory.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from benchmarks.case import BenchmarkError


def names() -> list[str]:
    """Every suite there is, by file name."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def load(name: str) -> ModuleType:
    """Raises BenchmarkError for a suite that is not there."""
    if name not in names():
        raise BenchmarkError(f'There is no suite "{name}". Suites: {", ".join(names())}.')
    return import_module(f"benchmarks.suites.{name}")


def heading(suite: ModuleType) -> str:
    return (suite.__doc__ or suite.__name__).strip().splitlines()[0].rstrip(".")
