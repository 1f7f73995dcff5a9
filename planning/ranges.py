"""Ranges of figures."""

from __future__ import annotations

from typing import NamedTuple


class Range(NamedTuple):
    """Range of a figure that cannot be predicted exactly."""

    low: float
    high: float
