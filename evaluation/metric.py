"""Metric of a task: statistics of each item, and the value of their sum.

Every metric here is a function of sums over items: a mean is `sum / count`, bits per byte are
`nats / bytes`, BLEU is a function of summed n-gram counts, macro F1 of a confusion matrix, and
calibration error of summed bins. Bootstrap intervals, comparisons of two models and values by
group therefore need one representation only, and resampling is a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TaskMetric:
    """Metric of one model on one task.

    Attributes:
        name: Name in the results, such as `accuracy` or `bits_per_byte`.
        kind: `proportion` if each item is 0 or 1, `mean` if each item has a value of its own, and
            `corpus` if only the whole set has a value.
        statistics: Statistics of each item, of shape (items, k). Of a proportion or a mean they
            are (value, 1). Those of an item that is not scored are all 0.
        value_of: Maps sums of statistics, of shape (..., k), to values, of shape (...).
        higher_is_better: False for losses and error rates.
        item_values: Value of each item, of shape (items,), for the report; NaN of an item that is
            not scored; None if an item has no value of its own.
    """

    name: str
    kind: Literal["proportion", "mean", "corpus"]
    statistics: Floats
    value_of: Callable[[Floats], Floats]
    higher_is_better: bool = True
    item_values: Floats | None = None

    @property
    def value(self) -> float:
        """Value over all items; NaN without items."""
        if not len(self.statistics):
            return float("nan")
        return float(self.value_of(self.statistics.sum(axis=0)))

    def subset(self, rows: NDArray[np.intp]) -> TaskMetric:
        """Return the metric of some items, by their numbers."""
        values = None if self.item_values is None else self.item_values[rows]
        return TaskMetric(
            self.name,
            self.kind,
            self.statistics[rows],
            self.value_of,
            self.higher_is_better,
            values,
        )


def ratio(sums: Floats) -> Floats:
    """Return the first statistic divided by the second; NaN if that is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums[..., 0] / np.where(sums[..., 1] == 0, np.nan, sums[..., 1]))


def mean_metric(name: str, values: Floats, *, higher_is_better: bool = True) -> TaskMetric:
    """Return a metric that is the mean of one value per item.

    Args:
        name: Name of the metric.
        values: Value of each item, of shape (items,); NaN of an item that is not scored.
        higher_is_better: False for losses and error rates.
    """
    values = np.asarray(values, dtype=np.float64)
    scored = ~np.isnan(values)
    binary = bool(np.isin(values[scored], (0.0, 1.0)).all())
    return TaskMetric(
        name,
        "proportion" if binary else "mean",
        np.column_stack([np.where(scored, values, 0.0), scored.astype(np.float64)]),
        ratio,
        higher_is_better,
        values,
    )
