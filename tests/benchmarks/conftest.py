"""Result lines made by hand, and a suite of two cases that was never run."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from benchmarks.case import Case, Contender

DEVICE = {"cpu": "Test CPU", "cores": 2, "gpu": "none"}


@pytest.fixture
def make_line():
    """A result line; what is not given is the same in every one."""

    def line(contender: str = "ours", rate: float = 20.0, **changed: Any) -> dict[str, Any]:
        return {
            "suite": "search", "case": "scan", "settings": {"n": 10}, "mode": "full",
            "commit": "aaa111", "dirty": False, "threads": 2, "device": DEVICE,
            "contender": contender, "ours": contender == "ours", "unit": "queries_per_second",
            "better": "higher", "baseline": "peer",
            "metrics": {"queries_per_second": rate, "recall": 0.5, "peak_mib": 64.0},
            "spread": {"queries_per_second": [rate - 1, rate + 1]},
            "ratio_to_peer": 2.0 if contender == "ours" else 1.0, "repeats": 3, "warm_up": 1,
            "line_up": ["ours", "peer"], "left_out": [], "date": "2026-01-01T00:00:00+00:00",
            "versions": {},
        } | changed

    return line


@pytest.fixture
def search_suite() -> ModuleType:
    """A suite module with the cases `scan` and `walk`."""

    def never(settings, work):
        raise AssertionError("a report measures nothing")

    suite = ModuleType("search")
    suite.__doc__ = "Searching made-up vectors.\n\nMore."
    suite.SHOWN = ("recall",)
    suite.PLOT = ("Recall against speed", "queries a second", "recall")
    suite.plotted = lambda line: (
        line["contender"], line["metrics"]["queries_per_second"], line["metrics"]["recall"]
    )
    suite.cases = lambda quick: [
        Case(name, {}, {"ours": Contender(never, ours=True), "peer": Contender(never)},
             unit="queries_per_second", better="higher", baseline="peer")
        for name in ("scan", "walk")
    ]
    return suite
