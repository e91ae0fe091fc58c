"""Clocks for contenders."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any


def seconds(call: Callable[[], Any]) -> float:
    """How long one call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def latencies(call: Callable[[Any], Any], arguments: Iterable[Any]) -> dict[str, float]:
    """{"p50_ms", "p95_ms", "p99_ms"} of one call for each argument, in milliseconds."""
    taken = [1000 * seconds(lambda: call(argument)) for argument in arguments]
    return {f"p{percent}_ms": percentile(taken, percent) for percent in (50, 95, 99)}


def noted(call: Callable[..., Any]) -> tuple[Callable[..., Any], list[float]]:
    """The same, and a list that grows by the milliseconds that each call of it takes."""
    taken: list[float] = []

    def timed(*arguments: Any) -> Any:
        begun = time.perf_counter()
        result = call(*arguments)
        taken.append(1000 * (time.perf_counter() - begun))
        return result

    return timed, taken


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed (nearest rank)."""
    ranked = sorted(values)
    rank = -(-percent * len(ranked) // 100)  # rounded up
    return ranked[max(0, int(rank) - 1)]
