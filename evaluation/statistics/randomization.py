"""Paired randomization test: does exchanging the two models' results per item matter?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from evaluation.metric import Floats

EXCHANGES = 5000
"""Number of random exchanges; the smallest p-value is one divided by it."""
_CHUNK = 4_000_000


def randomization_p(
    first: Floats,
    second: Floats,
    value_of: Callable[[Floats], Floats],
    *,
    seed: int = 0,
    exchanges: int = EXCHANGES,
) -> float:
    """Return the two-sided p-value of the difference of a value between two models.

    If the models are equal, their results on an item can be exchanged. The p-value is the share of
    random exchanges with a difference at least as large, the observed one among them, so that equal
    models are called different in at most 5 % (Noreen 1989; for corpus metrics Riezler and Maxwell
    2005, https://aclanthology.org/W05-0908).

    Args:
        first: Statistics of the first model's items, of shape (items, k).
        second: Statistics of the second model's items, of the same shape.
        value_of: Maps sums of statistics, of shape (..., k), to values, of shape (...).
        seed: Seed of the exchanges.
        exchanges: Number of random exchanges.
    """
    middle = (first.sum(axis=0) + second.sum(axis=0)) / 2
    half = (first - second) / 2
    observed = abs(float(_difference(middle, half.sum(axis=0), value_of)))
    generator = np.random.default_rng(seed)
    # Sums in another order differ in their last bits; an equal difference must count as one.
    limit = observed - 1e-9 * max(1.0, observed)
    as_large, rows = 0, max(1, _CHUNK // max(1, *first.shape))
    for start in range(0, exchanges, rows):
        count = min(rows, exchanges - start)
        signs = generator.integers(2, size=(count, len(first)), dtype=np.int8) * 2.0 - 1.0
        values = np.abs(_difference(middle, signs @ half, value_of))
        # A value that is not defined after an exchange counts against a difference.
        as_large += int(count - (values < limit).sum())
    return (as_large + 1) / (exchanges + 1)


def _difference(middle: Floats, half: Floats, value_of: Callable[[Floats], Floats]) -> Floats:
    return np.asarray(value_of(middle + half) - value_of(middle - half))
