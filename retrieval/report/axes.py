"""Axes of charts: a range of numbers laid along pixels, with ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# A logarithmic axis is divided as coarsely as still gives a few ticks.
_DIVISIONS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9))
_FEW = 4


@dataclass(frozen=True)
class Axis:
    """low..high of the data on the pixels start..end; end < start turns it round, as y in SVG."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def around(
        cls, values: Sequence[float], start: float, end: float, *, log: bool = False, margin: float = 0.08
    ) -> Axis:
        """An axis with some room beside the outermost values, and also around a single one.

        Raises ValueError if there are no values, or one on a logarithmic axis is not above 0.
        """
        if log and min(values) <= 0:
            raise ValueError(f"{min(values)} has no place on a logarithmic axis")
        low, high = (math.log10(min(values)), math.log10(max(values))) if log else (min(values), max(values))
        room = margin * (high - low) or (0.3 if log else max(1e-9, abs(high)) * 0.05)
        low, high = low - room, high + room
        return cls(10**low, 10**high, start, end, True) if log else cls(low, high, start, end)

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high, value = (math.log10(one) if self.log else one for one in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round numbers from low to high."""
        return log_ticks(self.low, self.high) if self.log else linear_ticks(self.low, self.high)


def linear_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from low to high, at most `most` of them."""
    power = math.floor(math.log10((high - low) / most))
    for step, decimals in ((1, -power), (2, -power), (5, -power), (10, -power), (20, -power)):
        step *= 10.0**power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    return [round(one * step, max(0, decimals)) for one in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high, evenly spread over the powers of ten where there are several."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for division in _DIVISIONS:
        ticks = [float(f"{digit}e{power}") for power in powers for digit in division]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= _FEW:
            return ticks
    return linear_ticks(low, high, most=5)


def tick_label(value: float) -> str:
    """0.001, 0.5, 20, 5,000 and 2M."""
    for size, letter in ((1e9, "G"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6f}".rstrip("0").rstrip(".")
