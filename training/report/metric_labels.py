"""Labels of the metrics in a report, from the methods' config classes."""

from __future__ import annotations

import math
from typing import Any

from training.config.method_base import MethodSection
from training.config.methods import method_class, method_classes
from training.config.metric_labels import COMMON, Labels, MetricLabel
from training.report.run_data import RunData, at


def metric_label(name: str) -> MetricLabel:
    """Return the label of a metric; one made of its name if no method declares it."""
    if name in COMMON:
        return COMMON[name]
    for method in method_classes():
        if name in method.metrics:
            return method.metrics[name]
    return MetricLabel(name.replace("_", " "))


def headline_metric(run_data: RunData) -> tuple[str, str, float, float] | None:
    """Return the metric that a run is judged by, as name, words, before and after.

    It is the first one with a headline, in the order in which the method declares its metrics, of
    which both values were measured; None if there is none.
    """
    for name, label in _labels_of(run_data).items():
        before, after = (at(side, "validation", name) for side in (run_data.before, run_data.after))
        if label.headline and isinstance(before, int | float) and isinstance(after, int | float):
            return name, label.headline, float(before), float(after)
    return None


def _labels_of(run_data: RunData) -> Labels:
    declared = method_class(str(at(run_data.job, "method", "kind")))
    methods: list[type[MethodSection]] = method_classes() if declared is None else [declared]
    labels: dict[str, MetricLabel] = {}
    for method in methods:
        labels |= method.metrics
    return {**labels, **COMMON}


def verdict(name: str, before: Any, after: Any) -> str:
    """Return better, worse or same; empty if the metric has no direction or no value.

    Args:
        name: Name of the metric.
        before: Value before training.
        after: Value after training.
    """
    better = metric_label(name).better
    if not better or not (_is_finite(before) and _is_finite(after)):
        return ""
    if abs(after - before) <= 0.001 * max(abs(before), 1e-9):
        return "same"
    return "better" if (after < before) == (better == "lower") else "worse"


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
