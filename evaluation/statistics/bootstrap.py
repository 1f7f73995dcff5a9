"""Bootstrap interval of any function of sums of statistics over items.

Items are drawn with replacement. The interval is the expanded percentile interval (Hesterberg 2015,
section 5.3, doi:10.1080/00031305.2015.1089789): a plain percentile interval is too narrow for few
items, so its quantiles are moved outward by the quantile of Student's t in place of the normal's,
and by the jackknife's standard error relative to that of the resamples, which is sqrt(n / (n - 1))
for a mean. In simulations of scores like token F1 and bits per byte it covers better than the
bias-corrected and accelerated interval (`tests/unit/evaluation/statistics/test_coverage.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from evaluation.metric import Floats
from evaluation.statistics.normal import STANDARD_NORMAL, t95

RESAMPLES = 5000
"""Number of resamples: the standard error of a bound is about 2 % of the interval's width."""
_CHUNK = 4_000_000
"""Largest number of draws at a time, so that memory stays bounded."""


class BootstrapInterval(NamedTuple):
    """Interval of a value.

    Attributes:
        low: Lower bound of the 95 % interval.
        high: Upper bound.
        standard_error: Standard deviation of the value over resamples.
    """

    low: float
    high: float
    standard_error: float


def bootstrap_interval(
    statistics: Floats,
    value_of: Callable[[Floats], Floats],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> BootstrapInterval:
    """Return the 95 % interval of a value over items.

    Args:
        statistics: Statistics of each item, of shape (items, k).
        value_of: Maps sums of statistics, of shape (..., k), to values, of shape (...).
        seed: Seed of the resamples.
        resamples: Number of resamples.
    """
    total = statistics.sum(axis=0)
    value = float(value_of(total))
    if len(statistics) < 2:
        return BootstrapInterval(value, value, 0.0)
    values = np.concatenate(
        [value_of(weights @ statistics) for weights in _weights(statistics.shape, resamples, seed)]
    )
    values = np.sort(values[np.isfinite(values)])
    if not len(values) or values[0] == values[-1]:
        return BootstrapInterval(value, value, 0.0)
    left = _left_quantile(values, value_of(total - statistics))
    low, high = np.quantile(values, [left, 1 - left])
    # The resamples of a biased metric can all lie on one side of its value.
    error = float(values.std(ddof=1))
    return BootstrapInterval(min(float(low), value), max(float(high), value), error)


def _weights(shape: tuple[int, ...], resamples: int, seed: int) -> Iterator[Floats]:
    """Yield how often each item is drawn in each resample, of shape (resamples, items).

    Args:
        shape: Shape of the statistics.
        resamples: Number of resamples.
        seed: Seed of the draws.
    """
    generator = np.random.default_rng(seed)
    items = shape[0]
    rows = max(1, _CHUNK // max(shape))
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        draws = generator.integers(items, size=(count, items))
        draws += np.arange(count)[:, None] * items
        counts = np.bincount(draws.ravel(), minlength=count * items)
        yield counts.reshape(count, items).astype(np.float64)


def _left_quantile(values: Floats, left_out: Floats) -> float:
    """Return the quantile of resampled values that is the lower bound; the upper is symmetric.

    Args:
        values: Value of each resample.
        left_out: Value without each item.
    """
    items = len(left_out)
    left_out = left_out[np.isfinite(left_out)]
    gaps = left_out - left_out.mean() if len(left_out) else np.zeros(1)
    jackknife_error = math.sqrt(float((gaps**2).sum()) * (items - 1) / items)
    return STANDARD_NORMAL.cdf(-t95(items - 1) * max(1.0, jackknife_error / float(values.std())))
