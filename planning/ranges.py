"""Ranges of figures."""

from __future__ import annotations

from typing import NamedTuple


class Range(NamedTuple):
    """Range of a figure that cannot be predicted exactly."""

    low: float
    high: float


def duration_range(hours: Range) -> str:
    """Return a range of time in hours, minutes or seconds."""
    size, unit = (1.0, "h") if hours.high >= 2 else (60.0, "min")
    if unit == "min" and hours.high * 60 < 2:
        size, unit = 3600.0, "s"
    digits = 1 if hours.high * size < 10 else 0
    return f"{hours.low * size:.{digits}f} to {hours.high * size:.{digits}f} {unit}"


def money_range(usd: Range) -> str:
    """Return a range of money in US dollars."""
    digits = 2 if usd.high < 10 else 0
    return f"{usd.low:.{digits}f} to {usd.high:.{digits}f} USD"
