"""Value of a metric with its interval.

Wilson's for a proportion, Tango's for a win rate with ties, otherwise the bootstrap's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation.metric import Floats, TaskMetric
from evaluation.results import MetricResult
from evaluation.statistics.bootstrap import bootstrap_interval
from evaluation.statistics.paired_proportions import tango_interval
from safety.binomial import Proportion


def scored_items(metric: TaskMetric) -> NDArray[np.bool_]:
    """Return which items are scored: those with a statistic other than 0."""
    scored: NDArray[np.bool_] = (metric.statistics != 0).any(axis=1)
    return scored


def summarise(
    metric: TaskMetric,
    groups: Sequence[str | None] | None = None,
    *,
    contaminated: Sequence[bool] | None = None,
    clusters: Sequence[str] | None = None,
    seed: int = 0,
) -> MetricResult | None:
    """Return the value of a metric with its 95 % interval.

    Args:
        metric: Metric of all items of a task.
        groups: Group of each item; None of an item without a group.
        contaminated: True for each item that was found in the training data.
        clusters: Cluster of each item, such as the document that several questions are about.
            Items of a cluster depend on each other, so that clusters are resampled as a whole.
        seed: Seed of the bootstrap.

    Returns:
        None if no item was scored, or the value is not defined for the scored items.
    """
    scored = np.flatnonzero(scored_items(metric))
    part = metric.subset(scored)
    if not len(scored) or not math.isfinite(part.value):
        return None
    if clusters is not None:
        statistics = sum_clusters(part.statistics, [clusters[int(row)] for row in scored])
        low, high, _ = bootstrap_interval(statistics, metric.value_of, seed=seed)
    else:
        low, high = _interval(part, seed)
    return MetricResult(
        value=part.value,
        low=float(low),
        high=float(high),
        items=len(scored),
        higher_is_better=metric.higher_is_better,
        by_group=_by_group(metric, scored, groups),
        clean=_clean_value(metric, scored, contaminated),
    )


def _interval(metric: TaskMetric, seed: int) -> tuple[float, float]:
    if metric.kind == "proportion":
        return Proportion(round(metric.statistics[:, 0].sum()), len(metric.statistics)).interval
    values = metric.item_values
    if metric.kind == "mean" and values is not None and np.isin(values, (0.0, 0.5, 1.0)).all():
        # Wins, ties and losses. A bootstrap of ties alone has no width, and one of ties and a
        # single win never falls below 0.5; the interval of wins minus losses does.
        wins, losses = int((values == 1).sum()), int((values == 0).sum())
        low, high = tango_interval(wins, losses, len(values))
        return (1 + low) / 2, (1 + high) / 2
    low, high, _ = bootstrap_interval(metric.statistics, metric.value_of, seed=seed)
    return low, high


def sum_clusters(statistics: Floats, clusters: Sequence[str]) -> Floats:
    """Return the summed statistics of each cluster, of shape (clusters, k)."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    sums = np.zeros((len(numbers), statistics.shape[1]))
    np.add.at(sums, [numbers[name] for name in clusters], statistics)
    return sums


def _by_group(
    metric: TaskMetric, scored: NDArray[np.intp], groups: Sequence[str | None] | None
) -> dict[str, float]:
    rows: dict[str, list[int]] = {}
    for row in scored if groups is not None else ():
        name = groups[row] if groups is not None else None
        if name is not None:
            rows.setdefault(name, []).append(int(row))
    values = {name: metric.subset(np.asarray(rows[name])).value for name in sorted(rows)}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _clean_value(
    metric: TaskMetric, scored: NDArray[np.intp], contaminated: Sequence[bool] | None
) -> float | None:
    if contaminated is None or not any(contaminated[row] for row in scored):
        return None
    rows = np.asarray([row for row in scored if not contaminated[row]], dtype=np.intp)
    value = metric.subset(rows).value
    return value if math.isfinite(value) else None
