"""Tests of the alarm evaluator against the tables that AWS publishes.

docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
"""

import pytest

from tests.infra.alarms.evaluation import (
    ALARM,
    INSUFFICIENT_DATA,
    OK,
    MetricAlarm,
    MetricSource,
    evaluate,
    states,
)
from tests.infra.alarms.metric_math import evaluate_expression

RETAIN = "retain current state"
TREATMENTS = ("missing", "ignore", "breaching", "notBreaching")
# Columns of AWS: datapoints to alarm, datapoints of the evaluation range, then the state by
# treatment. Evaluation periods are 3 and the evaluation range is 5.
TABLE = (
    (3, "0 - X - X", OK, OK, OK, OK),
    (3, "0 - - - -", OK, OK, OK, OK),
    (3, "- - - - -", INSUFFICIENT_DATA, RETAIN, ALARM, OK),
    (3, "0 X X - X", ALARM, ALARM, ALARM, ALARM),
    (3, "- - X - -", ALARM, RETAIN, ALARM, OK),
    (2, "0 - X - X", ALARM, ALARM, ALARM, ALARM),
    (2, "0 0 X 0 X", ALARM, ALARM, ALARM, ALARM),
    (2, "0 - X - -", OK, OK, ALARM, OK),
    (2, "- - - - 0", OK, OK, ALARM, OK),
    (2, "- - - X -", ALARM, RETAIN, ALARM, OK),
)
SYMBOLS = {"0": False, "X": True, "-": None}


@pytest.mark.parametrize("before", [OK, ALARM, INSUFFICIENT_DATA])
@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]} of 3: {row[1]}")
def test_every_row_of_the_published_tables(
    row: tuple[int, str, str, str, str, str], before: str
) -> None:
    to_alarm, points, *expected = row
    datapoints = [SYMBOLS[symbol] for symbol in points.split()]
    for treatment, state in zip(TREATMENTS, expected, strict=True):
        wanted = before if state == RETAIN else state
        assert (
            evaluate(datapoints, needed=3, to_alarm=to_alarm, missing=treatment, state=before)
            == wanted
        ), treatment


@pytest.mark.parametrize("points", ["- - - - X", "- - - X -"])
def test_a_first_breaching_datapoint_is_not_yet_an_alarm(points: str) -> None:
    datapoints = [SYMBOLS[symbol] for symbol in points.split()]
    assert evaluate(datapoints, needed=3, to_alarm=3, missing="missing", state=OK) == OK


def _alarm(periods: int, period: int, missing: str = "notBreaching") -> MetricAlarm:
    metric = MetricSource("n", "m", (), "Sum", period)
    return MetricAlarm(
        "a", {"m": metric}, None, 1, "GreaterThanOrEqualToThreshold", periods, periods, missing
    )


def test_an_hourly_metric_never_fills_twelve_periods_of_five_minutes() -> None:
    hourly = [(hour * 3600.0, 1.0) for hour in range(24)]
    for extra in (0, 2, 5):
        assert ALARM not in states(_alarm(12, 300), {"m": hourly}, until=86400, extra_periods=extra)
    assert ALARM in states(_alarm(3, 3600), {"m": hourly}, until=86400)


def test_the_window_slides_by_the_minute() -> None:
    alarm = _alarm(1, 900)
    alarm = MetricAlarm(**{**vars(alarm), "threshold": 3})
    # On both sides of a quarter of an hour.
    three = [(800.0, 1.0), (860.0, 1.0), (980.0, 1.0)]
    assert ALARM in states(alarm, {"m": three}, until=3600)
    assert ALARM not in states(alarm, {"m": three[:2]}, until=3600)


def test_missing_operands_leave_no_value_unless_filled() -> None:
    assert evaluate_expression("m0 + m1", {"m0": 1.0, "m1": None}) is None
    assert evaluate_expression("FILL(m0, 0) + FILL(m1, 0)", {"m0": 1.0, "m1": None}) == 1.0
    with pytest.raises(NotImplementedError, match="SEARCH"):
        evaluate_expression("SEARCH('x', 'Sum')", {})
