"""Difference of two proportions on the same items: exact McNemar test and Tango's interval."""

from __future__ import annotations

import math

from evaluation.statistics.normal import Z80, Z95
from safety.binomial import at_most

_STEPS = 60


def mcnemar_p(wins: int, losses: int) -> float:
    """Return the two-sided p-value of the exact McNemar test (a sign test of the unequal items).

    Args:
        wins: Number of items on which only the first is right.
        losses: Number of items on which only the second is right.
    """
    return min(1.0, 2 * at_most(min(wins, losses), wins + losses, 0.5))


def tango_interval(wins: int, losses: int, items: int) -> tuple[float, float]:
    """Return the 95 % score interval of the difference of two paired proportions.

    Tango 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B. It holds its
    coverage for few items and for differences near 0, where Wald's interval does not.

    Args:
        wins: Number of items on which only the first is right.
        losses: Number of items on which only the second is right.
        items: Number of items.
    """
    return (
        _solve(wins, losses, items, Z95),
        _solve(wins, losses, items, -Z95),
    )


def _solve(wins: int, losses: int, items: int, z: float) -> float:
    """Return the difference at which the score statistic, which falls with it, equals z."""
    low, high = -1.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _score(wins, losses, items, middle) > z:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _score(wins: int, losses: int, items: int, difference: float) -> float:
    """Return Tango's statistic of a difference, with the other probability estimated under it."""
    linear = -wins - losses + (2 * items - wins + losses) * difference
    constant = -losses * difference * (1 - difference)
    root = math.sqrt(max(0.0, linear * linear - 8 * items * constant))
    loss_share = (root - linear) / (4 * items)
    variance = items * (2 * loss_share + difference * (1 - difference))
    gap = wins - losses - items * difference
    if variance <= 0:
        return math.copysign(math.inf, gap) if gap else 0.0
    return gap / math.sqrt(variance)


def items_needed_for_proportions(wins: int, losses: int, items: int) -> int | None:
    """Return the items with which McNemar's test would find this difference with 80 % power.

    Miettinen 1968, doi:10.2307/2528464, in the form of Connor 1987, doi:10.2307/2531961.

    Args:
        wins: Number of items on which only the first is right.
        losses: Number of items on which only the second is right.
        items: Number of items.

    Returns:
        None if the proportions are equal.
    """
    if wins == losses:
        return None
    unequal, difference = (wins + losses) / items, abs(wins - losses) / items
    root = Z95 * math.sqrt(unequal) + Z80 * math.sqrt(max(0.0, unequal - difference**2))
    return math.ceil((root / difference) ** 2)
