"""Emulated Application Auto Scaling of variants and inference components.

https://docs.aws.amazon.com/autoscaling/application/APIReference/Welcome.html
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from emulator.aws_service import AwsService
from emulator.hosting.components import ComponentApi
from emulator.hosting.context import HostingContext
from emulator.hosting.endpoints import EndpointApi
from emulator.hosting.metrics import NAMESPACE, MetricStore, statistic
from emulator.hosting.scaling_policy import (
    IN_MINUTES,
    IN_SHARE,
    OUT_MINUTES,
    ScalingPolicy,
    step_capacity,
    tracked_capacity,
)
from emulator.moto_account import ACCOUNT
from emulator.request_validation import RequestRejected, reject

VARIANT = "sagemaker:variant:DesiredInstanceCount"
COPIES = "sagemaker:inference-component:DesiredCopyCount"
_RESOURCES = {
    VARIANT: re.compile(r"endpoint/([^/]+)/variant/([^/]+)"),
    COPIES: re.compile(r"inference-component/([^/]+)"),
}
_ROLE = (
    f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com"
    "/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
)
# Metric of each predefined one, and its statistic.
_PREDEFINED = {
    "SageMakerVariantInvocationsPerInstance": ("InvocationsPerInstance", "Sum"),
    "SageMakerInferenceComponentInvocationsPerCopy": ("InvocationsPerCopy", "Sum"),
    "SageMakerVariantConcurrentRequestsPerModelHighResolution": (
        "ConcurrentRequestsPerModel",
        "Maximum",
    ),
    "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution": (
        "ConcurrentRequestsPerCopy",
        "Maximum",
    ),
}


@dataclass
class ScalableTarget:
    """Resource whose capacity is scaled."""

    request: dict[str, Any]
    arn: str
    created: float
    policies: dict[str, ScalingPolicy] = field(default_factory=dict)


class AutoscalingApi:
    """Scalable targets and their policies.

    Args:
        context: Clock, account and containers.
        endpoints: The endpoints.
        components: The inference components.
        store: The metrics.
    """

    def __init__(
        self,
        context: HostingContext,
        endpoints: EndpointApi,
        components: ComponentApi,
        store: MetricStore,
    ):
        self._context, self._endpoints, self._components = context, endpoints, components
        self._store = store
        self.targets: dict[str, ScalableTarget] = {}
        self.activities: list[dict[str, Any]] = []
        self.service = AwsService(
            "application-autoscaling",
            {
                "RegisterScalableTarget": self._locked(self._register),
                "DeregisterScalableTarget": self._locked(self._deregister),
                "DescribeScalableTargets": self._locked(self._describe_targets),
                "PutScalingPolicy": self._locked(self._put_policy),
                "DeleteScalingPolicy": self._locked(self._delete_policy),
                "DescribeScalingPolicies": self._locked(self._describe_policies),
                "DescribeScalingActivities": self._locked(self._describe_activities),
            },
        )

    def _locked(
        self, handler: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def handle(request: dict[str, Any]) -> dict[str, Any]:
            if request["ServiceNamespace"] != "sagemaker":
                reject(f"The namespace {request['ServiceNamespace']} is not emulated")
            with self._context.lock:
                return handler(request)

        return handle

    def clear(self) -> None:
        """Forget all targets."""
        self.targets.clear()
        self.activities.clear()

    # --- operations -------------------------------------------------------------------------

    def _register(self, request: dict[str, Any]) -> dict[str, Any]:
        resource = request["ResourceId"]
        pattern = _RESOURCES.get(request["ScalableDimension"])
        if pattern is None or not pattern.fullmatch(resource):
            reject(f"Unsupported resource {resource} for {request['ScalableDimension']}.")
        if self._capacity(resource) is None:
            reject(f"The resource {resource} does not exist in SageMaker.")
        known = self.targets.get(resource)
        merged = {**(known.request if known else {}), **request}
        if not {"MinCapacity", "MaxCapacity"} <= merged.keys():
            reject("MinCapacity and MaxCapacity are required for a new scalable target.")
        if merged["MinCapacity"] > merged["MaxCapacity"]:
            reject("MinCapacity must be at most MaxCapacity.")
        if merged["MinCapacity"] == 0 and not self._may_be_zero(resource):
            # https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference-autoscale.html
            reject("MinCapacity 0 of a variant needs asynchronous inference.")
        if known:
            known.request = merged
        else:
            arn = self._arn("scalable-target", uuid.uuid4().hex[:32])
            self.targets[resource] = ScalableTarget(merged, arn, self._context.clock.now())
        return {"ScalableTargetARN": self.targets[resource].arn}

    def _deregister(self, request: dict[str, Any]) -> dict[str, Any]:
        target = self._target(request)
        for policy in target.policies.values():
            self._delete_alarms(policy)
        del self.targets[request["ResourceId"]]
        return {}

    def _describe_targets(self, request: dict[str, Any]) -> dict[str, Any]:
        wanted = request.get("ResourceIds")
        found = [
            {
                **{k: v for k, v in target.request.items() if k != "Tags"},
                "RoleARN": _ROLE,
                "CreationTime": target.created,
                "ScalableTargetARN": target.arn,
            }
            for resource, target in self.targets.items()
            if not wanted or resource in wanted
        ]
        return {"ScalableTargets": found}

    def _put_policy(self, request: dict[str, Any]) -> dict[str, Any]:
        target, name = self._target(request), request["PolicyName"]
        kind = request.setdefault("PolicyType", "StepScaling")
        key = "TargetTracking" if kind == "TargetTrackingScaling" else "Step"
        if kind == "PredictiveScaling" or f"{key}ScalingPolicyConfiguration" not in request:
            reject(f"{key}ScalingPolicyConfiguration is required for the policy type {kind}.")
        known = target.policies.get(name)
        arn = (
            known.arn if known else self._arn("scalingPolicy", f"{uuid.uuid4()}:policyName/{name}")
        )
        policy = ScalingPolicy(request, arn, self._context.clock.now())
        if policy.is_tracking:
            self._metric(request["ResourceId"], policy)  # rejects an unknown metric
            policy.alarms = self._put_alarms(request["ResourceId"], policy)
        target.policies[name] = policy
        alarms = [{"AlarmName": n, "AlarmARN": self._alarm_arn(n)} for n in policy.alarms]
        return {"PolicyARN": arn, "Alarms": alarms}

    def _delete_policy(self, request: dict[str, Any]) -> dict[str, Any]:
        target = self._target(request)
        if request["PolicyName"] not in target.policies:
            _raise_missing(f"No scaling policy {request['PolicyName']} was found")
        self._delete_alarms(target.policies.pop(request["PolicyName"]))
        return {}

    def _describe_policies(self, request: dict[str, Any]) -> dict[str, Any]:
        names = request.get("PolicyNames")
        found = [
            {
                **policy.request,
                "PolicyARN": policy.arn,
                "CreationTime": policy.created,
                "Alarms": [{"AlarmName": n, "AlarmARN": self._alarm_arn(n)} for n in policy.alarms],
            }
            for resource, target in self.targets.items()
            if request.get("ResourceId", resource) == resource
            for policy in target.policies.values()
            if not names or policy.request["PolicyName"] in names
        ]
        return {"ScalingPolicies": found}

    def _describe_activities(self, request: dict[str, Any]) -> dict[str, Any]:
        resource = request.get("ResourceId")
        found = [a for a in self.activities if resource in (None, a["ResourceId"])]
        return {"ScalingActivities": list(reversed(found))}

    # --- scaling ----------------------------------------------------------------------------

    def act(self, action: str, alarm: Mapping[str, Any], value: float) -> None:
        """Take the action of an alarm if it is a scaling policy.

        Args:
            action: ARN of the action.
            alarm: The alarm.
            value: Latest value of its metric.
        """
        for resource, target in self.targets.items():
            for policy in target.policies.values():
                current = self._capacity(resource)
                if policy.arn != action or policy.is_tracking or current is None:
                    continue
                cooldown = policy.settings.get("Cooldown", 300)
                if self._context.clock.now() - policy.scaled_at >= cooldown:
                    wanted = step_capacity(policy.settings, current, value - alarm["Threshold"])
                    cause = f"monitor alarm {alarm['AlarmName']} in state ALARM"
                    self._scale(resource, target, policy, current, wanted, cause)

    def track(self) -> None:
        """Scale what policies track, and forget the targets whose resource is gone."""
        for resource, target in list(self.targets.items()):
            current = self._capacity(resource)
            if current is None:
                for policy in target.policies.values():
                    self._delete_alarms(policy)
                del self.targets[resource]
                continue
            for policy in target.policies.values():
                if policy.is_tracking:
                    self._track(resource, target, policy, current)

    def _track(
        self, resource: str, target: ScalableTarget, policy: ScalingPolicy, current: int
    ) -> None:
        now, (name, how, dimensions) = self._context.clock.now(), self._metric(resource, policy)
        if now - policy.created < 60 * IN_MINUTES and current > target.request["MinCapacity"]:
            minutes = int((now - policy.created) // 60)
        else:
            minutes = IN_MINUTES
        values: list[float | None] = []
        for n in range(IN_MINUTES):
            found = self._store.window(name, dimensions, now - 60 * (n + 1), now - 60 * n)
            value = statistic(how, found)
            if value is not None and name.startswith("Invocations"):
                value /= max(1, current)
            values.append(value)
        wanted = tracked_capacity(policy.settings, current, values)
        if wanted < current and minutes < IN_MINUTES:
            return
        side = "ScaleOutCooldown" if wanted > current else "ScaleInCooldown"
        if wanted != current and now - policy.scaled_at >= policy.settings.get(side, 300):
            cause = f"{name} and the target {policy.settings['TargetValue']:g}"
            self._scale(resource, target, policy, current, wanted, cause)

    def _scale(
        self,
        resource: str,
        target: ScalableTarget,
        policy: ScalingPolicy,
        current: int,
        wanted: int,
        cause: str,
    ) -> None:
        limits = target.request
        wanted = min(max(wanted, limits["MinCapacity"]), limits["MaxCapacity"])
        if wanted == current or not self._set_capacity(resource, wanted):
            return
        now = policy.scaled_at = self._context.clock.now()
        self.activities.append(
            {
                "ActivityId": str(uuid.uuid4()),
                "ServiceNamespace": "sagemaker",
                "ResourceId": resource,
                "ScalableDimension": limits["ScalableDimension"],
                "Description": f"Setting desired capacity to {wanted}.",
                "Cause": f"{cause} triggered policy {policy.request['PolicyName']}",
                "StartTime": now,
                "EndTime": now,
                "StatusCode": "Successful",
            }
        )

    def _capacity(self, resource: str) -> int | None:
        """Return the desired capacity of a resource; None if it does not exist."""
        if match := _RESOURCES[VARIANT].fullmatch(resource):
            endpoint = self._endpoints.table.find(match[1])
            return endpoint.desired.get(match[2]) if endpoint else None
        component = self._components.table.find(resource.partition("/")[2])
        return component.desired if component and component.copies else None

    def _set_capacity(self, resource: str, wanted: int) -> bool:
        """Set the desired capacity, and return False while another change is in progress."""
        if match := _RESOURCES[VARIANT].fullmatch(resource):
            endpoint = self._endpoints.table.get(match[1])
            if endpoint.status != "InService":
                return False
            endpoint.scale({match[2]: wanted}, {})
            return True
        component = self._components.table.get(resource.partition("/")[2])
        if component.status != "InService":
            return False
        self._components.scale(component, wanted)
        return True

    def _may_be_zero(self, resource: str) -> bool:
        match = _RESOURCES[VARIANT].fullmatch(resource)
        if not match:
            return True
        return "AsyncInferenceConfig" in self._endpoints.table.get(match[1]).config.request

    def _metric(self, resource: str, policy: ScalingPolicy) -> tuple[str, str, dict[str, str]]:
        """Return name, statistic and dimensions of the metric that a policy tracks."""
        if custom := policy.settings.get("CustomizedMetricSpecification"):
            if "MetricName" not in custom:
                reject("metric math in CustomizedMetricSpecification is not emulated")
            dimensions = {d["Name"]: d["Value"] for d in custom.get("Dimensions", ())}
            return custom["MetricName"], custom["Statistic"], dimensions
        kind = policy.settings.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType")
        if kind not in _PREDEFINED:
            reject(f"PredefinedMetricType {kind} cannot be used for {resource}.")
        dimension = VARIANT if "Variant" in kind else COPIES
        match = _RESOURCES[dimension].fullmatch(resource)
        if match is None:
            reject(f"PredefinedMetricType {kind} cannot be used for {resource}.")
        names = ["InferenceComponentName"]
        if dimension == VARIANT:
            names = ["EndpointName", "VariantName"]
        return (*_PREDEFINED[kind], dict(zip(names, match.groups(), strict=True)))

    def _put_alarms(self, resource: str, policy: ScalingPolicy) -> tuple[str, ...]:
        """Create the two alarms of a tracking policy, as the service does."""
        name, how, dimensions = self._metric(resource, policy)
        target, made = policy.settings["TargetValue"], []
        for side, compare, threshold, minutes in (
            ("High", "GreaterThanThreshold", target, OUT_MINUTES),
            ("Low", "LessThanThreshold", target * IN_SHARE, IN_MINUTES),
        ):
            id_ = uuid.uuid5(uuid.NAMESPACE_URL, policy.arn)
            alarm = f"TargetTracking-{resource}-Alarm{side}-{id_}"
            self._context.client("cloudwatch").put_metric_alarm(
                AlarmName=alarm,
                Namespace=f"{NAMESPACE}/TargetTracking",  # evaluated by the policy
                MetricName=name,
                Dimensions=[{"Name": k, "Value": v} for k, v in dimensions.items()],
                Statistic=how,
                Period=60,
                EvaluationPeriods=minutes,
                Threshold=threshold,
                ComparisonOperator=compare,
                AlarmActions=[policy.arn],
            )
            made.append(alarm)
        return tuple(made)

    def _delete_alarms(self, policy: ScalingPolicy) -> None:
        if policy.alarms:
            self._context.client("cloudwatch").delete_alarms(AlarmNames=list(policy.alarms))

    def _target(self, request: Mapping[str, Any]) -> ScalableTarget:
        resource = request["ResourceId"]
        if resource not in self.targets:
            _raise_missing(f"No scalable target registered for {resource}")
        return self.targets[resource]

    def _arn(self, kind: str, name: str) -> str:
        service = "autoscaling" if kind == "scalingPolicy" else "application-autoscaling"
        separator = ":" if kind == "scalingPolicy" else "/"
        return f"arn:aws:{service}:{self._context.region}:{ACCOUNT}:{kind}{separator}{name}"

    def _alarm_arn(self, name: str) -> str:
        return f"arn:aws:cloudwatch:{self._context.region}:{ACCOUNT}:alarm:{name}"


def _raise_missing(message: str) -> NoReturn:
    """Reject a request for something that does not exist.

    Raises:
        RequestRejected: Always.
    """
    raise RequestRejected("ObjectNotFoundException", message)
