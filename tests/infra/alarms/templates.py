"""Alarms of a synthesized template, as the evaluator takes them."""

from typing import Any

from tests.infra.alarms.evaluation import MetricAlarm, MetricSource
from tests.infra.conftest import Assembly

ONLY = "metric"


def alarms_of(assembly: Assembly, prefix: str) -> dict[str, MetricAlarm]:
    """Return the metric alarms of an environment by name, without its prefix."""
    alarms = {}
    for resource in assembly.of_type("AWS::CloudWatch::Alarm"):
        alarm = read_alarm(resource["Properties"])
        alarms[alarm.name.removeprefix(f"{prefix}-")] = alarm
    return alarms


def read_alarm(properties: dict[str, Any]) -> MetricAlarm:
    """Return an alarm of a template; a single metric has the id `metric`."""
    expression, metrics = None, {}
    if "Metrics" in properties:
        for query in properties["Metrics"]:
            if "Expression" in query:
                expression = query["Expression"]
            else:
                stat = query["MetricStat"]
                metrics[query["Id"]] = _source(stat["Metric"], stat["Stat"], stat["Period"])
    else:
        statistic = properties.get("Statistic") or properties["ExtendedStatistic"]
        metrics[ONLY] = _source(properties, statistic, properties["Period"])
    return MetricAlarm(
        name=properties["AlarmName"],
        metrics=metrics,
        expression=expression,
        threshold=properties["Threshold"],
        comparison=properties["ComparisonOperator"],
        evaluation_periods=properties["EvaluationPeriods"],
        datapoints_to_alarm=properties.get("DatapointsToAlarm", properties["EvaluationPeriods"]),
        missing=properties.get("TreatMissingData", "missing"),
    )


def _source(metric: dict[str, Any], statistic: str, period: int) -> MetricSource:
    dimensions = tuple((d["Name"], str(d["Value"])) for d in metric.get("Dimensions", []))
    return MetricSource(metric["Namespace"], metric["MetricName"], dimensions, statistic, period)
