"""Alarms that shift traffic back, and the one that wakes a deployment without copies.

https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-configuration.html
https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-zero-instances.html
"""

from __future__ import annotations

from typing import Any

from deployment.account import DeploymentAccount
from deployment.sagemaker.requests import VARIANT
from deployment.spec import Rollout
from launch.aws.session import explain_aws_errors

_NAMESPACE = "AWS/SageMaker"
_PERIOD_S = 60
Dimensions = list[dict[str, str]]


def of_endpoint(endpoint: str) -> Dimensions:
    """Return the dimensions of an endpoint's metrics."""
    return [
        {"Name": "EndpointName", "Value": endpoint},
        {"Name": "VariantName", "Value": VARIANT},
    ]


def of_component(component: str) -> Dimensions:
    """Return the dimensions of a component's metrics."""
    return [{"Name": "InferenceComponentName", "Value": component}]


def rollback_names(account: DeploymentAccount, name: str) -> tuple[str, str]:
    """Return the names of the alarms that roll a deployment back."""
    return account.resource_name(name, "errors"), account.resource_name(name, "latency")


def put_rollback_alarms(
    account: DeploymentAccount, name: str, rollout: Rollout, dimensions: Dimensions
) -> tuple[str, ...]:
    """Create the alarms that roll a deployment back, and return their names.

    Args:
        account: Account of the deployment.
        name: Name of the deployment.
        rollout: Limits of the shift.
        dimensions: Endpoint or component whose metrics are watched.
    """
    alarms = (error_alarm, latency_alarm)
    return tuple(put_alarm(account, alarm(account, name, rollout, dimensions)) for alarm in alarms)


def error_alarm(
    account: DeploymentAccount, name: str, rollout: Rollout, dimensions: Dimensions
) -> dict[str, Any]:
    """Return the alarm on the share of requests that end with an error of the server.

    Args:
        account: Account of the deployment.
        name: Name of the deployment.
        rollout: Limits of the shift.
        dimensions: Endpoint or component whose metrics are watched.
    """
    errors = _metric("errors", "Invocation5XXErrors", dimensions, "Sum")
    calls = _metric("calls", "Invocations", dimensions, "Sum")
    share = {
        "Id": "share",
        "Expression": "IF(calls > 0, errors / calls, 0)",
        "Label": "Share of requests with an error of the server",
        "ReturnData": True,
    }
    return {
        "AlarmName": account.resource_name(name, "errors"),
        "AlarmDescription": f"Server errors of the deployment {name}; shifts its traffic back",
        "Metrics": [share, errors, calls],
        "Threshold": rollout.max_error_rate,
        **_evaluation("GreaterThanThreshold"),
    }


def latency_alarm(
    account: DeploymentAccount, name: str, rollout: Rollout, dimensions: Dimensions
) -> dict[str, Any]:
    """Return the alarm on the 95th percentile of the time in the model.

    Args:
        account: Account of the deployment.
        name: Name of the deployment.
        rollout: Limits of the shift.
        dimensions: Endpoint or component whose metrics are watched.
    """
    return {
        "AlarmName": account.resource_name(name, "latency"),
        "AlarmDescription": f"Latency of the deployment {name}; shifts its traffic back",
        "Namespace": _NAMESPACE,
        "MetricName": "ModelLatency",
        "Dimensions": dimensions,
        "ExtendedStatistic": "p95",
        "Period": _PERIOD_S,
        "Threshold": rollout.max_latency * 1e6,  # the metric is in microseconds
        **_evaluation("GreaterThanThreshold"),
    }


def wake_alarm(component: str, policy: str) -> dict[str, Any]:
    """Return the alarm that starts the first copy when a request found none.

    Target tracking has no metric while there is no copy, so that without it a component that has
    scaled to zero never wakes.

    Args:
        component: Name of the inference component.
        policy: ARN of the scaling policy that adds a copy.
    """
    return {
        "AlarmDescription": f"A request to {component} found no copy; starts the first one",
        "MetricName": "NoCapacityInvocationFailures",
        "Dimensions": of_component(component),
        "Statistic": "Sum",
        **_waking(component, policy),
    }


def backlog_alarm(endpoint: str, policy: str) -> dict[str, Any]:
    """Return the alarm that starts the first instance of an asynchronous endpoint.

    Args:
        endpoint: Name of the endpoint.
        policy: ARN of the scaling policy that adds an instance.
    """
    return {
        "AlarmDescription": f"Requests wait for {endpoint} without an instance; starts the first",
        "MetricName": "HasBacklogWithoutCapacity",
        "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
        "Statistic": "Average",
        **_waking(endpoint, policy),
    }


def wake_name(resource: str) -> str:
    """Return the name of the alarm that wakes an endpoint or a component."""
    return f"{resource}-wake"


def _waking(resource: str, policy: str) -> dict[str, Any]:
    """Return the members that both alarms have which start the first copy."""
    return {
        "AlarmName": wake_name(resource),
        "Namespace": _NAMESPACE,
        "Period": _PERIOD_S,
        "Threshold": 1,
        "AlarmActions": [policy],
        **_evaluation("GreaterThanOrEqualToThreshold"),
    }


def put_alarm(account: DeploymentAccount, alarm: dict[str, Any]) -> str:
    """Create or change an alarm and return its name."""
    with explain_aws_errors(f"creating the alarm {alarm['AlarmName']}"):
        account.client("cloudwatch").put_metric_alarm(**alarm)
    return str(alarm["AlarmName"])


def delete_alarms(account: DeploymentAccount, *names: str) -> None:
    """Delete alarms; those that do not exist are no error."""
    with explain_aws_errors(f"deleting the alarms {', '.join(names)}"):
        client = account.client("cloudwatch")
        found = client.describe_alarms(AlarmNames=list(names))["MetricAlarms"]
        if found:
            client.delete_alarms(AlarmNames=[alarm["AlarmName"] for alarm in found])


def alarms_in_alarm(account: DeploymentAccount, *names: str) -> list[str]:
    """Return which of these alarms are in the state ALARM."""
    with explain_aws_errors("reading the alarms"):
        found = account.client("cloudwatch").describe_alarms(AlarmNames=list(names))
    return [a["AlarmName"] for a in found["MetricAlarms"] if a["StateValue"] == "ALARM"]


def _metric(id: str, name: str, dimensions: Dimensions, statistic: str) -> dict[str, Any]:
    metric = {"Namespace": _NAMESPACE, "MetricName": name, "Dimensions": dimensions}
    return {
        "Id": id,
        "MetricStat": {"Metric": metric, "Period": _PERIOD_S, "Stat": statistic},
        "ReturnData": False,
    }


def _evaluation(comparison: str) -> dict[str, Any]:
    return {
        "EvaluationPeriods": 1,
        "ComparisonOperator": comparison,
        "TreatMissingData": "notBreaching",
    }
