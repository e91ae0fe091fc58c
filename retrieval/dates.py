"""Dates by prefix: 2024 is a year, 2024-06 a month, 2024-06-01 a day, 2024-06-01T12:30 a minute."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

_DATE = re.compile(
    r"(?P<year>\d{4})(-(?P<month>\d{1,2})(-(?P<day>\d{1,2})"
    r"([T ](?P<hour>\d{1,2}):(?P<minute>\d{2})(:(?P<second>\d{2}))?)?)?)?"
)
_LENGTHS = {"day": timedelta(days=1), "minute": timedelta(minutes=1), "second": timedelta(seconds=1)}


def span(text: str) -> tuple[datetime, datetime]:
    """The first instant of what is meant, and the first one after it; local time.

    Raises ValueError with the reason for what is no date, or one that no calendar has.
    """
    match = _DATE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no date; write 2024, 2024-06, 2024-06-01 or 2024-06-01T12:30")
    parts = {name: int(value) for name, value in match.groupdict().items() if value is not None}
    try:
        start = datetime(**{"month": 1, "day": 1, **parts})
    except ValueError as error:
        raise ValueError(f"there is no date {text} ({_reason(error)})") from error
    try:
        if "day" in parts:
            finest = next(name for name in ("second", "minute", "day") if name in parts)
            return start, start + _LENGTHS[finest]
        if "month" in parts:
            return start, (start + timedelta(days=31)).replace(day=1)
        return start, start.replace(year=start.year + 1)
    except (OverflowError, ValueError):  # the end of the year 9999
        return start, datetime.max


def _reason(error: ValueError) -> str:
    """Python's words for it, without its advice on code."""
    return str(error).partition(",")[0]
