"""Check of the endpoints and the Bedrock models of the environment.

Alarms on AWS's own metrics could not tell the environments of an account apart: a query has one
result for all endpoints. So the metrics are read here, of the resources that concern us.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from .faults import Fault
from .metric_data import Series, metric_query, read_series
from .scope import Scope

PERIOD_SECONDS = 300
# CloudWatch has the last minutes of a metric with a delay, so a period ends this long ago.
DELAY = timedelta(minutes=2)
PERIODS = 3


@dataclass(frozen=True)
class ServingLimits:
    """Thresholds of the environment."""

    endpoint_latency_ms: int
    bedrock_latency_ms: int
    errors: int = 5


@dataclass(frozen=True)
class Metric:
    """Metric with the fault that it shows.

    Attributes:
        fault: Name of the alarm.
        name: Name of the metric.
        statistic: Statistic per period.
        periods: Number of periods that must all reach the limit.
        limit: Value from which on it counts.
        text: Reason, with `{}` for the highest value.
    """

    fault: str
    name: str
    statistic: str
    periods: int
    limit: float
    text: str


def endpoint_metrics(limits: ServingLimits) -> tuple[Metric, ...]:
    """Return what is read of each endpoint variant. `ModelLatency` is in microseconds."""
    return (
        Metric(
            "endpoint-errors",
            "Invocation5XXErrors",
            "Sum",
            1,
            limits.errors,
            "{:.0f} server errors within 5 minutes",
        ),
        Metric(
            "endpoint-latency",
            "ModelLatency",
            "Maximum",
            PERIODS,
            limits.endpoint_latency_ms * 1000,
            "a latency of {:.0f} microseconds, over the limit for 15 minutes",
        ),
    )


def bedrock_metrics(limits: ServingLimits) -> tuple[Metric, ...]:
    """Return what is read of each model of Bedrock."""
    return (
        Metric(
            "bedrock-throttled",
            "InvocationThrottles",
            "Sum",
            PERIODS,
            1,
            "{:.0f} throttled calls in one of three periods of 5 minutes",
        ),
        Metric(
            "bedrock-errors",
            "InvocationServerErrors",
            "Sum",
            1,
            limits.errors,
            "{:.0f} server errors within 5 minutes",
        ),
        Metric(
            "bedrock-latency",
            "InvocationLatency",
            "Average",
            PERIODS,
            limits.bedrock_latency_ms,
            "{:.0f} ms on average, over the limit for 15 minutes",
        ),
    )


def check_endpoints(
    sagemaker: Any, cloudwatch: Any, *, scope: Scope, limits: ServingLimits, now: datetime
) -> Iterator[Fault]:
    """Yield the faults of the SageMaker endpoints in service.

    Args:
        sagemaker: SageMaker client.
        cloudwatch: CloudWatch client.
        scope: Which endpoints concern the environment.
        limits: Thresholds of the environment.
        now: Current time.
    """
    variants: dict[str, dict[str, str]] = {}
    for page in sagemaker.get_paginator("list_endpoints").paginate():
        for summary in page["Endpoints"]:
            name = summary["EndpointName"]
            if not scope.covers_sagemaker(sagemaker, summary["EndpointArn"]):
                continue
            endpoint = sagemaker.describe_endpoint(EndpointName=name)
            for variant in endpoint.get("ProductionVariants", []):
                dimensions = {"EndpointName": name, "VariantName": variant["VariantName"]}
                variants[f"{name}/{variant['VariantName']}"] = dimensions
    yield from _faults(cloudwatch, "AWS/SageMaker", variants, endpoint_metrics(limits), now)


def check_models(
    bedrock: Any,
    cloudwatch: Any,
    *,
    prefix: str,
    models: Sequence[str],
    scope: Scope,
    limits: ServingLimits,
    now: datetime,
) -> Iterator[Fault]:
    """Yield the faults of the models that the environment calls or provides.

    Args:
        bedrock: Bedrock client.
        cloudwatch: CloudWatch client.
        prefix: Prefix of the environment, which begins the names of its provisioned throughput.
        models: Models that its jobs may call.
        scope: Which imported models concern the environment.
        limits: Thresholds of the environment.
        now: Current time.
    """
    ids = {model: {"ModelId": model} for model in models}
    for arn in _throughputs(bedrock, prefix):
        ids[arn] = {"ModelId": arn}
    for arn in _imported_models(bedrock, scope):
        ids[arn] = {"ModelId": arn}
    yield from _faults(cloudwatch, "AWS/Bedrock", ids, bedrock_metrics(limits), now)


def _throughputs(bedrock: Any, prefix: str) -> Iterator[str]:
    pages = bedrock.get_paginator("list_provisioned_model_throughputs").paginate(
        nameContains=prefix
    )
    for page in pages:
        for summary in page["provisionedModelSummaries"]:
            if summary["provisionedModelName"].startswith(f"{prefix}-"):
                yield summary["provisionedModelArn"]


def _imported_models(bedrock: Any, scope: Scope) -> Iterator[str]:
    for page in bedrock.get_paginator("list_imported_models").paginate():
        for summary in page["modelSummaries"]:
            arn = summary["modelArn"]
            tags = bedrock.list_tags_for_resource(resourceARN=arn).get("tags", [])
            if scope.covers([{"Key": t["key"], "Value": t["value"]} for t in tags]):
                yield arn


def _faults(
    cloudwatch: Any,
    namespace: str,
    resources: dict[str, dict[str, str]],
    metrics: Sequence[Metric],
    now: datetime,
) -> Iterator[Fault]:
    if not resources:
        return
    queries = {
        f"{name}|{metric.fault}": metric_query(
            namespace,
            metric.name,
            dimensions,
            statistic=metric.statistic,
            period=PERIOD_SECONDS,
        )
        for name, dimensions in resources.items()
        for metric in metrics
    }
    seconds = int((now - DELAY).timestamp()) // PERIOD_SECONDS * PERIOD_SECONDS
    end = datetime.fromtimestamp(seconds, UTC)
    start = end - timedelta(seconds=PERIODS * PERIOD_SECONDS)
    series = read_series(cloudwatch, queries, start, end)
    for name in resources:
        for metric in metrics:
            worst = _worst(metric, series[f"{name}|{metric.fault}"], end)
            if worst is not None:
                yield Fault(name, metric.fault, metric.text.format(worst))


def _worst(metric: Metric, series: Series, end: datetime) -> float | None:
    """Return the highest value if each of the last periods reaches the limit, or None."""
    first = end - timedelta(seconds=metric.periods * PERIOD_SECONDS)
    values = [
        value
        for value, begin in zip(series.values, series.timestamps, strict=True)
        if begin >= first
    ]
    complete = len(values) == metric.periods and all(value >= metric.limit for value in values)
    return max(values) if complete else None
