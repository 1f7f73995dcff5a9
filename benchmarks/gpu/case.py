"""Cases of a part: what each one runs, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Measured = Mapping[str, Any]
"""Values of a row, as JSON. `tolerance` and `source` say what they were compared with."""


@dataclass(frozen=True)
class Case:
    """One check or measurement.

    Attributes:
        name: Unique in its part.
        run: Runs it in a folder that only it uses, and returns what it measured.
        is_slow: Takes more than about two seconds on a CPU at the smallest scale.
    """

    name: str
    run: Callable[[Path], Measured]
    is_slow: bool = False


class CaseFailedError(Exception):
    """A measured value that is outside its tolerance.

    Args:
        message: What is wrong, with the values.
        measured: All values, for the row.
    """

    def __init__(self, message: str, measured: Measured):
        super().__init__(message)
        self.measured = dict(measured)


class NotInstalledError(Exception):
    """A package or device that a case compares with and this machine lacks."""


def check_close(
    measured: Measured, name: str, mine: list[float], other: list[float], tolerance: float
) -> None:
    """Check that two lists of numbers agree, each pair relative to the second.

    Args:
        measured: Values of the row, for the error.
        name: What is compared.
        mine: Numbers to check.
        other: Numbers to compare with.
        tolerance: Largest relative difference.

    Raises:
        CaseFailedError: They differ in number, or a pair differs by more.
    """
    difference = largest_difference(mine, other)
    if not difference <= tolerance:
        raise CaseFailedError(
            f"{name} differ by {difference:.2e}, which is above {tolerance:.1e}: "
            f"{_shown(mine)} against {_shown(other)}",
            measured,
        )


def largest_difference(mine: list[float], other: list[float]) -> float:
    """Return the largest relative difference of two lists; infinity if one lacks a number."""
    if len(mine) != len(other) or not mine:
        return float("inf")
    differences = [abs(a - b) / max(abs(b), 1e-12) for a, b in zip(mine, other, strict=True)]
    # A comparison with NaN is false, so `max` could pass over one.
    return max(d if d == d else float("inf") for d in differences)


def _shown(values: list[float]) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in values[:6]) + (", …]" if values[6:] else "]")
