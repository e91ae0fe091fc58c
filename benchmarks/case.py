"""What a suite is made of: cases, and the contenders that are measured side by side in each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Metrics = dict[str, float]  # the unit is part of the name: seconds, p50_ms, peak_mib
Measure = Callable[[], Metrics]
Prepare = Callable[[Mapping[str, Any], Path], Measure]

BETTER = ("higher", "lower")


class BenchmarkError(Exception):
    """A mistake to be told in one sentence."""


class LeftOut(Exception):
    """Raised by a contender's prepare: this machine cannot run it. The message says why."""


@dataclass(frozen=True)
class Contender:
    """One way of doing what a case measures.

    prepare   (settings, work folder) -> measure. Untimed: loads, generates, builds. Each call of
              measure does the work once and returns its metrics; the contender itself times
              what counts, so that checking and cleaning up do not. A function of a module, or
              a functools.partial of one, for it is called in a process of its own.
    ours      whether this project's code does the work
    needs     {module to import: what to pip install} beyond this project's dependencies
    isolated  False runs it in the runner's own process, without peak memory. Peak memory is what
              the process holds at most once it is prepared, data and indexes included
    """

    prepare: Prepare
    ours: bool = False
    needs: Mapping[str, str] = field(default_factory=dict)
    isolated: bool = True

    def missing(self) -> list[str]:
        """What to pip install before this can run."""
        return [package for module, package in self.needs.items() if find_spec(module) is None]


@dataclass(frozen=True)
class Case:
    """One measurement, made of every contender in turns.

    unit         the metric that decides, for instance "images_per_second"
    better       "higher" or "lower"
    baseline     the contender that ratios refer to; None where nobody else does this
    warm_up      rounds that do not count
    most_repeats an upper limit for cases that take minutes a round
    agree        {metric: tolerance}: what all contenders must find alike, or the case fails
    headline     whether the report's table shows it; the results file always does

    Raises ValueError on a baseline that is no contender, or another word for better.
    """

    name: str
    settings: Mapping[str, Any]
    contenders: Mapping[str, Contender]
    unit: str
    better: str
    baseline: str | None = None
    warm_up: int = 1
    most_repeats: int | None = None
    agree: Mapping[str, float] = field(default_factory=dict)
    headline: bool = True

    def __post_init__(self) -> None:
        if self.better not in BETTER:
            raise ValueError(f'{self.name}: better is "higher" or "lower", not "{self.better}"')
        if self.baseline is not None and self.baseline not in self.contenders:
            raise ValueError(f"{self.name}: the baseline {self.baseline} is not a contender")
