"""EWMA control chart of a mean, against a registered baseline.

z_t = λ x_t + (1 − λ) z_{t−1} starts at the baseline. Its limits are L standard errors, of which
one part is the baseline's own, since it was measured on a sample, too. Roberts 1959,
doi:10.1080/00401706.1959.10489860; λ and L as Lucas and Saccucci 1990,
doi:10.1080/00401706.1990.10484583, advise for shifts of about one standard error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.statistics.normal import Z95

_WEIGHT = 0.2
_ERRORS = 2.86


@dataclass(frozen=True)
class Baseline:
    """Mean that was registered.

    Attributes:
        name: Where it is registered.
        mean: The mean.
        low: Lower bound of its 95 % interval.
        high: Upper bound.
        items: Number of items.
        higher_is_better: False for a share of faults.
    """

    name: str
    mean: float
    low: float
    high: float
    items: int
    higher_is_better: bool = True

    @property
    def standard_error(self) -> float:
        """Standard error of the mean."""
        return (self.high - self.low) / (2 * Z95)

    @property
    def deviation(self) -> float:
        """Standard deviation of an item."""
        return self.standard_error * math.sqrt(self.items)


@dataclass(frozen=True)
class ChartPoint:
    """Point of a control chart.

    Attributes:
        mean: Mean of the window.
        items: Its items.
        ewma: Exponentially weighted mean.
        low: Lower limit of it.
        high: Upper limit.
        worse: Whether it is beyond the limit on the bad side.
    """

    mean: float
    items: int
    ewma: float
    low: float
    high: float
    worse: bool


def control_chart(
    windows: Sequence[tuple[float, int] | None], baseline: Baseline
) -> list[ChartPoint | None]:
    """Return the points of a chart; None of a window without items.

    Args:
        windows: Mean and number of items of each window; None without items.
        baseline: The registered mean.
    """
    points: list[ChartPoint | None] = []
    ewma, variance = baseline.mean, 0.0
    for window in windows:
        if window is None:
            points.append(None)
            continue
        mean, items = window
        ewma = _WEIGHT * mean + (1 - _WEIGHT) * ewma
        variance = _WEIGHT**2 * baseline.deviation**2 / items + (1 - _WEIGHT) ** 2 * variance
        half = _ERRORS * math.sqrt(variance + baseline.standard_error**2)
        low, high = baseline.mean - half, baseline.mean + half
        worse = ewma < low if baseline.higher_is_better else ewma > high
        points.append(ChartPoint(mean, items, ewma, low, high, worse))
    return points
