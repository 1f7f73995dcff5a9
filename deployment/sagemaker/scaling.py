"""Application Auto Scaling of endpoints and of inference components.

https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deployment.account import DeploymentAccount
from deployment.sagemaker.alarms import put_alarm
from deployment.sagemaker.requests import VARIANT
from deployment.spec import Scaling
from launch.aws.session import explain_aws_errors

_OUT_S, _IN_S = 60, 600
AlarmOf = Callable[[str, str], dict[str, Any]]


@dataclass(frozen=True)
class ScalableResource:
    """Resource that is scaled.

    Attributes:
        id: Resource id of Application Auto Scaling.
        dimension: Its dimension.
        metric: Predefined metric of requests in progress, or of the backlog.
    """

    id: str
    dimension: str
    metric: str


def variant_of(endpoint: str) -> ScalableResource:
    """Return the instances of an endpoint."""
    return ScalableResource(
        f"endpoint/{endpoint}/variant/{VARIANT}",
        "sagemaker:variant:DesiredInstanceCount",
        "SageMakerVariantConcurrentRequestsPerModelHighResolution",
    )


def copies_of(component: str) -> ScalableResource:
    """Return the copies of an inference component."""
    return ScalableResource(
        f"inference-component/{component}",
        "sagemaker:inference-component:DesiredCopyCount",
        "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution",
    )


def register_scaling(
    account: DeploymentAccount,
    resource: ScalableResource,
    scaling: Scaling,
    *,
    tracking: dict[str, Any] | None = None,
    wake: tuple[str, AlarmOf] | None = None,
) -> None:
    """Scale a resource by its load, and wake it from zero.

    Args:
        account: Account of the deployment.
        resource: The resource.
        scaling: Limits and aim.
        tracking: Metric that is tracked; the requests in progress if None.
        wake: Name in the alarm's dimension, and the function that returns the alarm.
    """
    client, key = account.client("application-autoscaling"), _key(resource)
    with explain_aws_errors(f"scaling {resource.id}"):
        client.register_scalable_target(**key, MinCapacity=scaling.min, MaxCapacity=scaling.max)
        client.put_scaling_policy(
            **key,
            PolicyName="requests",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": scaling.concurrent_requests,
                "ScaleOutCooldown": _OUT_S,
                "ScaleInCooldown": _IN_S,
                **(tracking or _tracked(resource)),
            },
        )
    if scaling.min == 0 and wake is not None:
        name, alarm = wake
        with explain_aws_errors(f"scaling {resource.id} from zero"):
            answer = client.put_scaling_policy(
                **key,
                PolicyName="from-zero",
                PolicyType="StepScaling",
                StepScalingPolicyConfiguration={
                    "AdjustmentType": "ChangeInCapacity",
                    "MetricAggregationType": "Maximum",
                    "Cooldown": _OUT_S,
                    "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
                },
            )
        put_alarm(account, alarm(name, answer["PolicyARN"]))


def deregister_scaling(account: DeploymentAccount, resource: ScalableResource) -> None:
    """End the scaling of a resource; its policies go with it."""
    if is_scaled(account, resource):
        with explain_aws_errors(f"ending the scaling of {resource.id}"):
            client = account.client("application-autoscaling")
            client.deregister_scalable_target(**_key(resource))


def is_scaled(account: DeploymentAccount, resource: ScalableResource) -> bool:
    """Return whether a resource is scaled."""
    with explain_aws_errors(f"reading the scaling of {resource.id}"):
        found = account.client("application-autoscaling").describe_scalable_targets(
            ServiceNamespace="sagemaker", ResourceIds=[resource.id]
        )
    return bool(found["ScalableTargets"])


def scaling_of(account: DeploymentAccount, resource: ScalableResource) -> dict[str, Any] | None:
    """Return the section `scaling` of a resource, None if it is not scaled."""
    client, key = account.client("application-autoscaling"), _key(resource)
    with explain_aws_errors(f"reading the scaling of {resource.id}"):
        found = client.describe_scalable_targets(
            ServiceNamespace="sagemaker", ResourceIds=[resource.id]
        )["ScalableTargets"]
        policies = client.describe_scaling_policies(**key)["ScalingPolicies"] if found else []
    if not found:
        return None
    scaling = {"min": found[0]["MinCapacity"], "max": found[0]["MaxCapacity"]}
    for policy in policies:
        if tracking := policy.get("TargetTrackingScalingPolicyConfiguration"):
            scaling["concurrent_requests"] = tracking["TargetValue"]
    return scaling


def backlog_metric(endpoint: str) -> dict[str, Any]:
    """Return the metric of requests that wait at an asynchronous endpoint, per instance."""
    return {
        "CustomizedMetricSpecification": {
            "Namespace": "AWS/SageMaker",
            "MetricName": "ApproximateBacklogSizePerInstance",
            "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
            "Statistic": "Average",
        }
    }


def _tracked(resource: ScalableResource) -> dict[str, Any]:
    return {"PredefinedMetricSpecification": {"PredefinedMetricType": resource.metric}}


def _key(resource: ScalableResource) -> dict[str, str]:
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": resource.id,
        "ScalableDimension": resource.dimension,
    }
