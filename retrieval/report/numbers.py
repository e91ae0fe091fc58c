"""Numbers as readers see them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from retrieval.evaluate.scores import IMAGE_TO_TEXT, TEXT_TO_IMAGE

Show = Callable[[float], str]
UNKNOWN = "–"
_DIRECTIONS = {TEXT_TO_IMAGE: "Text to image", IMAGE_TO_TEXT: "Image to text"}


def percent(fraction: float) -> str:
    return _known(100 * fraction, ".1f")


def decimal(value: float) -> str:
    """One decimal: what is in percent already, and mean ranks."""
    return _known(value, ",.1f")


def fraction(value: float) -> str:
    return _known(value, ".3f")


def rank(value: float) -> str:
    """7 or 7.5: the median of an even number of ranks may fall between two."""
    return _known(value, ",.1f").removesuffix(".0")


def count(value: float) -> str:
    return _known(value, ",.0f")


def measured(value: float) -> str:
    """Three significant digits, for times and sizes: 0.0123, 1.23, 12.3, 1,234."""
    if not math.isfinite(value) or value == 0:
        return _known(value, ".0f")
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def signed(show: Show) -> Show:
    """`show` for differences: +1.2, −1.2, and 0.0 for what rounds to nothing."""

    def shown(value: float) -> str:
        text = show(abs(value))
        nothing = not any(digit in text for digit in "123456789∞")
        return text if nothing else ("−" if value < 0 else "+") + text

    return shown


def best_shown(
    values: Iterable[float], show: Show, better: Callable[[Iterable[float]], float] = max
) -> str | None:
    """The best number as shown: what reads alike is equally good. None if there is nothing to choose."""
    known = [value for value in values if not math.isnan(value)]
    return show(better(known)) if len(set(map(show, known))) > 1 else None


def plural(number: int, one: str, many: str | None = None) -> str:
    """1 image, 2 images."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def direction(name: str, language: str = "") -> str:
    """"Text to image, de"."""
    return _DIRECTIONS.get(name, name) + (f", {language}" if language else "")


def _known(value: float, form: str) -> str:
    if math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return "∞"
    text = format(value, form)
    return text.replace("-", "−") if any(digit in text for digit in "123456789") else text.lstrip("-")
