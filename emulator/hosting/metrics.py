"""Metrics of emulated endpoints, and the alarms on them: CloudWatch's evaluation, which moto lacks.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.hosting.context import HostingContext

NAMESPACE = "AWS/SageMaker"
_KEPT_S = 3 * 3600.0
_Dimensions = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class MetricValue:
    """One measured value of a metric."""

    time: float
    value: float


class MetricStore:
    """Metrics by name and dimensions.

    Args:
        context: Clock, account and containers.
    """

    def __init__(self, context: HostingContext):
        self._context = context
        self._samples: dict[tuple[str, _Dimensions], list[MetricValue]] = {}

    def put(self, name: str, value: float, **dimensions: str) -> None:
        """Record a value.

        Args:
            name: Name of the metric.
            value: The value.
            dimensions: Dimensions of the metric.
        """
        now = self._context.clock.now()
        samples = self._samples.setdefault((name, frozenset(dimensions.items())), [])
        samples.append(MetricValue(now, value))
        while samples[0].time < now - _KEPT_S:
            samples.pop(0)

    def window(
        self, name: str, dimensions: Mapping[str, str], start: float, end: float
    ) -> list[float]:
        """Return the values of a metric after `start` and up to `end`.

        Args:
            name: Name of the metric.
            dimensions: Its dimensions.
            start: Start of the window.
            end: End of the window.
        """
        samples = self._samples.get((name, frozenset(dimensions.items())), ())
        return [sample.value for sample in samples if start < sample.time <= end]

    @property
    def is_empty(self) -> bool:
        """True if nothing was recorded."""
        return not self._samples

    def clear(self) -> None:
        """Forget all values."""
        self._samples.clear()


def statistic(name: str, values: Sequence[float]) -> float | None:
    """Return a statistic of the values of one period; None without values.

    Args:
        name: `Sum`, `Average`, `Minimum`, `Maximum`, `SampleCount` or a percentile such as `p95`.
        values: The values.
    """
    if not values:
        return None
    if name.startswith("p"):
        ordered = sorted(values)
        return ordered[max(0, math.ceil(float(name[1:]) / 100 * len(ordered)) - 1)]
    known: dict[str, Callable[[Sequence[float]], float]] = {
        "Sum": sum,
        "Average": lambda found: sum(found) / len(found),
        "Minimum": min,
        "Maximum": max,
        "SampleCount": len,
    }
    return float(known[name](values))


class AlarmEvaluator:
    """Evaluation of the account's alarms on metrics of the store.

    Args:
        context: Clock, account and containers.
        store: The metrics.
        act: Is called for each action of an alarm in the state ALARM, with the alarm and the
            latest value.
    """

    def __init__(
        self,
        context: HostingContext,
        store: MetricStore,
        act: Callable[[str, Mapping[str, Any], float], None],
    ):
        self._context, self._store, self._act = context, store, act

    def evaluate(self) -> None:
        """Set the state of every alarm on metrics of endpoints, and take its actions."""
        cloudwatch = self._context.client("cloudwatch")
        for alarm in cloudwatch.describe_alarms(AlarmTypes=["MetricAlarm"])["MetricAlarms"]:
            if not _is_on_endpoints(alarm):
                continue
            points = self._points(alarm)
            state = _state(alarm, points)
            if state is None:
                continue
            if state != alarm["StateValue"]:
                reason = f"{len(points)} datapoint(s): {points}"
                cloudwatch.set_alarm_state(
                    AlarmName=alarm["AlarmName"], StateValue=state, StateReason=reason
                )
            latest = next((point for point in points if point is not None), None)
            if state == "ALARM" and latest is not None:
                for action in alarm.get("AlarmActions", ()):
                    self._act(action, alarm, latest)

    def _points(self, alarm: Mapping[str, Any]) -> list[float | None]:
        """Return the value of each evaluated period, latest first; None without data."""
        return [self._point(alarm, number) for number in range(alarm["EvaluationPeriods"])]

    def _point(self, alarm: Mapping[str, Any], number: int) -> float | None:
        if not alarm.get("Metrics"):
            how = alarm.get("Statistic") or alarm.get("ExtendedStatistic", "Average")
            return self._value(alarm, how, alarm["Period"], number)
        values: dict[str, float | None] = {}
        expressions = []
        for query in alarm["Metrics"]:
            if stat := query.get("MetricStat"):
                metric = {"Dimensions": [], **stat["Metric"]}
                values[query["Id"]] = self._value(metric, stat["Stat"], stat["Period"], number)
            else:
                expressions.append(query)
        for query in expressions:
            values[query["Id"]] = evaluate_expression(query["Expression"], values)
        returned = [query["Id"] for query in alarm["Metrics"] if query.get("ReturnData", True)]
        return values[returned[0]]

    def _value(
        self, metric: Mapping[str, Any], how: str, period: float, number: int
    ) -> float | None:
        end = self._context.clock.now() - number * period
        dimensions = {d["Name"]: d["Value"] for d in metric.get("Dimensions", ())}
        window = self._store.window(metric["MetricName"], dimensions, end - period, end)
        return statistic(how, window)


def _is_on_endpoints(alarm: Mapping[str, Any]) -> bool:
    metrics = [q["MetricStat"]["Metric"] for q in alarm.get("Metrics", ()) if "MetricStat" in q]
    return any(m.get("Namespace") == NAMESPACE for m in (alarm, *metrics))


_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


def _state(alarm: Mapping[str, Any], points: Sequence[float | None]) -> str | None:
    """Return the state of an alarm; None if it keeps the one that it has."""
    compare = _COMPARISONS[alarm["ComparisonOperator"]]
    missing = alarm.get("TreatMissingData") or "missing"
    if all(point is None for point in points) and missing in ("missing", "ignore"):
        return "INSUFFICIENT_DATA" if missing == "missing" else None
    breaching = sum(
        missing == "breaching" if point is None else compare(point, alarm["Threshold"])
        for point in points
    )
    needed = alarm.get("DatapointsToAlarm") or alarm["EvaluationPeriods"]
    return "ALARM" if breaching >= needed else "OK"


_OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def evaluate_expression(expression: str, values: Mapping[str, float | None]) -> float | None:
    """Return the value of a metric math expression; None if a value it needs is missing.

    Arithmetic, comparisons, `IF` and `FILL` are known.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html

    Args:
        expression: The expression.
        values: Value of each metric by its id.
    """
    try:
        found = _compute(ast.parse(expression, mode="eval").body, values)
    except ZeroDivisionError:
        return None
    return None if found is None else float(found)


def _compute(node: ast.expr, values: Mapping[str, float | None]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        pair = _compute(node.left, values), _compute(node.comparators[0], values)
        return None if None in pair else _OPERATORS[type(node.ops[0])](*pair)
    if isinstance(node, ast.BinOp):
        pair = _compute(node.left, values), _compute(node.right, values)
        return None if None in pair else _OPERATORS[type(node.op)](*pair)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == "IF":
            condition, then, otherwise = node.args
            decided = _compute(condition, values)
            return None if decided is None else _compute(then if decided else otherwise, values)
        if node.func.id == "FILL":
            value = _compute(node.args[0], values)
            return _compute(node.args[1], values) if value is None else value
    raise NotImplementedError(f"{ast.unparse(node)} is not emulated")
