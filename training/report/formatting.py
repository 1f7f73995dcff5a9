"""Formats of numbers, durations and dates in the report and on the console."""

from __future__ import annotations

import math
from typing import Any

MISSING = "–"


def number(value: Any, digits: int = 4) -> str:
    """Return a measured value as `3.3657` or `NaN`; a dash if there is none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return MISSING
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value and (abs(value) >= 1e6 or abs(value) < 10**-digits):
        return f"{value:.2e}".replace("-", "−")
    return f"{value:,.{digits}f}".replace("-", "−")


def count(value: Any) -> str:
    """Return an integer with thousands separators: `245,760`."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return MISSING
    return f"{value:,.0f}"


def large(value: Any) -> str:
    """Return an abbreviated count: `246k`, `6.5M`, `8.03B`."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return MISSING
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{name}"
    return count(value)


def percent(share: Any, digits: int = 0) -> str:
    """Return a share as `41 %`."""
    if not isinstance(share, int | float) or not math.isfinite(share):
        return MISSING
    return f"{share * 100:.{digits}f} %".replace("-", "−")


def change(before: Any, after: Any) -> str:
    """Return the change of a value: `−41 %`, or `+0.17` if it was not positive before."""
    numbers = [v for v in (before, after) if isinstance(v, int | float) and math.isfinite(v)]
    if len(numbers) < 2:
        return MISSING
    if before <= 0 or after < 0:
        return f"{after - before:+.2f}".replace("-", "−") if after != before else MISSING
    share = (after - before) / abs(before)
    digits = 0 if abs(share) >= 0.1 else 1
    return ("+" if share > 0 else "") + percent(share, digits)


def duration(seconds: Any) -> str:
    """Return seconds as `45 s`, `3 min 20 s` or `2 h 05 min`."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return MISSING
    whole = max(0, round(seconds))
    if 0 < seconds < 10:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(stamp: str) -> str:
    """Return `2026-11-22T05:44:58Z` as `2026-11-22 05:44 UTC`."""
    date, mark, clock = stamp.partition("T")
    return f"{date} {clock[:5]} UTC" if mark and len(clock) >= 5 else stamp
