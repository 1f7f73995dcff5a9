"""Evaluation of CloudWatch alarms by the rules that AWS documents.

Missing data: docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html.
Windows: docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation-window.html (a
sliding window by default: every minute, also if the period is longer).
"""

import operator
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.infra.alarms.metric_math import evaluate_expression, statistic_of

OK, ALARM, INSUFFICIENT_DATA = "OK", "ALARM", "INSUFFICIENT_DATA"
# One value per period, oldest first; True breaches the threshold, None is missing.
Datapoints = Sequence[bool | None]
# Samples of a metric: (second, value).
Samples = Sequence[tuple[float, float]]
MINUTE_SECONDS = 60
COMPARE: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


@dataclass(frozen=True)
class MetricSource:
    """Metric of an alarm: its namespace, name, dimensions, statistic and period in seconds."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    statistic: str
    period: int


@dataclass(frozen=True)
class MetricAlarm:
    """Alarm as in a template.

    Attributes:
        name: Name of the alarm.
        metrics: Its metrics by id.
        expression: Math expression over them; None for a single metric.
        threshold: Limit.
        comparison: Name of the comparison, a key of `COMPARE`.
        evaluation_periods: N.
        datapoints_to_alarm: M.
        missing: Treatment of missing data.
    """

    name: str
    metrics: Mapping[str, MetricSource]
    expression: str | None
    threshold: float
    comparison: str
    evaluation_periods: int
    datapoints_to_alarm: int
    missing: str

    @property
    def period(self) -> int:
        """Period in seconds; AWS requires the same one of all metrics of an alarm."""
        [period] = {metric.period for metric in self.metrics.values()}
        return period


def evaluate(
    datapoints: Datapoints, *, needed: int, to_alarm: int, missing: str, state: str
) -> str:
    """Return the state of an alarm after an evaluation.

    Args:
        datapoints: Datapoints of the evaluation range, which is longer than `needed`.
        needed: Evaluation periods, N.
        to_alarm: Datapoints to alarm, M.
        missing: Treatment of missing data.
        state: State before the evaluation.
    """
    real = [point for point in datapoints if point is not None]
    if len(real) >= needed:
        return ALARM if sum(real[-needed:]) >= to_alarm else OK
    if not real:
        return {
            "missing": INSUFFICIENT_DATA,
            "ignore": state,
            "breaching": ALARM,
            "notBreaching": OK,
        }[missing]
    breaching = sum(real) + (needed - len(real) if missing == "breaching" else 0)
    if breaching >= to_alarm:
        return ALARM
    if missing in ("breaching", "notBreaching") or not all(real):
        return OK
    # All that is known breaches, and it is too little: AWS avoids a premature alarm.
    age = len(datapoints) - next(i for i, point in enumerate(datapoints) if point)
    return ALARM if missing == "missing" and age >= to_alarm else state


def states(
    alarm: MetricAlarm, samples: Mapping[str, Samples], *, until: int, extra_periods: int = 2
) -> list[str]:
    """Return the state of an alarm after each minute from 0 to `until`.

    Args:
        alarm: The alarm.
        samples: Samples of its metrics, by the id of the metric in the alarm.
        until: Last second.
        extra_periods: Periods of the evaluation range beyond the evaluation periods. AWS publishes
            no formula; in its examples the range of three periods is five.
    """
    state, result = INSUFFICIENT_DATA, []
    length = alarm.evaluation_periods + extra_periods
    for now in range(0, until + 1, MINUTE_SECONDS):
        points = [
            _datapoint(alarm, samples, now - back * alarm.period)
            for back in reversed(range(length))
        ]
        state = evaluate(
            points,
            needed=alarm.evaluation_periods,
            to_alarm=alarm.datapoints_to_alarm,
            missing=alarm.missing,
            state=state,
        )
        result.append(state)
    return result


def _between(samples: Samples, start: float, end: float) -> list[float]:
    """Return the values of the samples after `start` and until `end`; they are sorted by time."""
    first = bisect_right(samples, start, key=lambda sample: sample[0])
    last = bisect_right(samples, end, key=lambda sample: sample[0])
    return [value for _, value in samples[first:last]]


def _datapoint(alarm: MetricAlarm, samples: Mapping[str, Samples], end: float) -> bool | None:
    values = {
        key: statistic_of(
            _between(samples.get(key, ()), end - metric.period, end), metric.statistic
        )
        for key, metric in alarm.metrics.items()
    }
    value = (
        next(iter(values.values()))
        if alarm.expression is None
        else evaluate_expression(alarm.expression, values)
    )
    return None if value is None else COMPARE[alarm.comparison](value, alarm.threshold)
