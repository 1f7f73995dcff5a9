"""Comparison of a measure before and after training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """One row of the table of measures before and after training.

    Attributes:
        name: Label of the measure.
        before: Formatted value before training.
        after: Formatted value after training.
        change: Formatted change, in percent if the first value is positive.
        verdict: `better`, `worse` or `same`; empty if a value is missing or neither direction is
            better.
    """

    name: str
    before: str
    after: str
    change: str
    verdict: str
