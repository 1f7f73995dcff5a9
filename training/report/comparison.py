"""A measure before training beside the same after it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """One measure, before training and after.

    Attributes:
        name: What was measured.
        before: In words.
        after: In words.
        change: In percent.
        verdict: better, worse, or same; empty when one side is missing or neither is better.
    """

    name: str
    before: str
    after: str
    change: str
    verdict: str
