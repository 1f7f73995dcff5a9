"""Difference of a metric between two models on the same items."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from evaluation.metric import Floats, TaskMetric
from evaluation.results import PairedResult
from evaluation.statistics.bootstrap import bootstrap_interval
from evaluation.statistics.normal import Z80, Z95
from evaluation.statistics.paired_proportions import (
    items_needed_for_proportions,
    mcnemar_p,
    tango_interval,
)
from evaluation.statistics.randomization import randomization_p
from evaluation.statistics.summary import scored_items, sum_clusters


def compare(
    model: TaskMetric,
    other: TaskMetric,
    *,
    clusters: Sequence[str] | None = None,
    seed: int = 0,
) -> PairedResult | None:
    """Return the difference of a metric, over the items that are scored for both models.

    Proportions: exact McNemar test and Tango's interval. Other metrics: paired randomization test
    and paired bootstrap. `p_holm` equals `p` until `adjust_comparisons` sets it.

    Args:
        model: Metric of the model, of all items of a task.
        other: The same metric of the other model, of the same items in the same order.
        clusters: Cluster of each item; clusters are resampled as a whole.
        seed: Seed of the bootstrap and the randomization.

    Returns:
        None if no item is scored for both, or the difference is not defined.

    Raises:
        ValueError: The metrics are not of the same items.
    """
    if len(model.statistics) != len(other.statistics):
        raise ValueError(
            f"{model.name}: {len(model.statistics)} items of the model and "
            f"{len(other.statistics)} of the other are not pairs"
        )
    rows = np.flatnonzero(scored_items(model) & scored_items(other))
    first, second = model.subset(rows), other.subset(rows)
    if not len(rows) or not math.isfinite(first.value - second.value):
        return None
    wins, losses = _count_wins(first, second)
    if first.kind == second.kind == "proportion" and clusters is None:
        return _compare_proportions(first, second, wins, losses)
    units = [first.statistics, second.statistics]
    if clusters is not None:
        named = [clusters[int(row)] for row in rows]
        units = [sum_clusters(unit, named) for unit in units]
    return _compare_values(first, second, units, (wins, losses), seed)


def _compare_proportions(
    first: TaskMetric, second: TaskMetric, wins: int, losses: int
) -> PairedResult:
    items = len(first.statistics)
    # Items that are better are those with the value 1, or 0 of an error rate.
    higher, lower = (wins, losses) if first.higher_is_better else (losses, wins)
    low, high = tango_interval(higher, lower, items)
    p = mcnemar_p(wins, losses)
    return PairedResult(
        difference=first.value - second.value,
        low=low,
        high=high,
        p=p,
        p_holm=p,
        test="mcnemar",
        wins=wins,
        losses=losses,
        ties=items - wins - losses,
        items_needed=items_needed_for_proportions(wins, losses, items),
    )


def _compare_values(
    first: TaskMetric,
    second: TaskMetric,
    units: Sequence[Floats],
    counts: tuple[int, int],
    seed: int,
) -> PairedResult:
    width = units[0].shape[1]

    def difference_of(sums: Floats) -> Floats:
        return first.value_of(sums[..., :width]) - second.value_of(sums[..., width:])

    interval = bootstrap_interval(np.hstack(units), difference_of, seed=seed)
    low, high = float(interval.low), float(interval.high)
    if low == high and _is_bounded(first) and _is_bounded(second):
        # Equal values on all items say little if the items are few, and a bootstrap of them
        # nothing; the interval of proportions without an unequal item is that of any share.
        low, high = tango_interval(0, 0, len(units[0]))
    p = randomization_p(units[0], units[1], first.value_of, seed=seed)
    difference, items = first.value - second.value, len(first.statistics)
    wins, losses = counts
    known = first.item_values is not None and second.item_values is not None
    return PairedResult(
        difference=difference,
        low=low,
        high=high,
        p=p,
        p_holm=p,
        test="randomization",
        wins=wins,
        losses=losses,
        ties=items - wins - losses if known else 0,
        items_needed=_items_needed(difference, interval.standard_error, items),
    )


def _is_bounded(metric: TaskMetric) -> bool:
    """Return True if all items have a value of their own from 0 to 1."""
    values = metric.item_values
    return values is not None and bool(((values >= 0) & (values <= 1)).all())


def _items_needed(difference: float, standard_error: float, items: int) -> int | None:
    """Return the items at which the difference is 2.8 standard errors: 80 % power at 5 %."""
    if not difference or not standard_error:
        return None
    return max(2, math.ceil(items * ((Z95 + Z80) * standard_error / difference) ** 2))


def _count_wins(first: TaskMetric, second: TaskMetric) -> tuple[int, int]:
    """Return the numbers of items on which the first is better and worse; 0 without item values."""
    if first.item_values is None or second.item_values is None:
        return 0, 0
    gap = first.item_values - second.item_values
    # The last bits of a log-likelihood depend on the batch; they decide nothing.
    unequal = ~np.isclose(first.item_values, second.item_values, rtol=1e-9, atol=1e-12)
    higher, lower = int((unequal & (gap > 0)).sum()), int((unequal & (gap < 0)).sum())
    return (higher, lower) if first.higher_is_better else (lower, higher)
