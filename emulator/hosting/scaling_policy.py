"""Scaling policies: the capacity that a step or a tracked metric asks for.

https://docs.aws.amazon.com/autoscaling/application/userguide/step-scaling-policy-overview.html
https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OUT_MINUTES, IN_MINUTES, IN_SHARE = 3, 15, 0.9
"""Minutes above the target until more capacity, minutes below 90 % of it until less."""


@dataclass
class ScalingPolicy:
    """Policy of a scalable target.

    Attributes:
        request: Parameters of PutScalingPolicy.
        arn: ARN of the policy.
        created: Time of its creation.
        alarms: Names of the alarms that a tracking policy made.
        scaled_at: Time of its latest activity.
    """

    request: Mapping[str, Any]
    arn: str
    created: float
    alarms: tuple[str, ...] = ()
    scaled_at: float = field(default=-math.inf)

    @property
    def is_tracking(self) -> bool:
        """True if it tracks a metric."""
        return bool(self.request["PolicyType"] == "TargetTrackingScaling")

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of its type."""
        kind = "TargetTracking" if self.is_tracking else "Step"
        found: Mapping[str, Any] = self.request[f"{kind}ScalingPolicyConfiguration"]
        return found


def step_capacity(settings: Mapping[str, Any], current: int, excess: float) -> int:
    """Return the capacity after a step.

    Args:
        settings: Configuration of the policy.
        current: Capacity now.
        excess: Value of the metric less the threshold of the alarm.
    """
    for step in settings.get("StepAdjustments", ()):
        lower = step.get("MetricIntervalLowerBound", -math.inf)
        if lower <= excess < step.get("MetricIntervalUpperBound", math.inf):
            change = step["ScalingAdjustment"]
            if settings["AdjustmentType"] == "ExactCapacity":
                return int(change)
            if settings["AdjustmentType"] == "PercentChangeInCapacity":
                least = settings.get("MinAdjustmentMagnitude", 1)
                size = max(least, abs(current * change) // 100)
                change = size if change > 0 else -size
            return int(current + change)
    return current


def tracked_capacity(settings: Mapping[str, Any], current: int, minutes: list[float | None]) -> int:
    """Return the capacity that brings a metric to its target.

    Args:
        settings: Configuration of the policy.
        current: Capacity now.
        minutes: Value of the metric in the latest minutes, latest first; None without data.
    """
    target = float(settings["TargetValue"])
    recent = minutes[:OUT_MINUTES]
    if current and all(value is not None and value > target for value in recent):
        return max(current, math.ceil(current * (recent[0] or 0.0) / target))
    calm = [value or 0.0 for value in minutes[:IN_MINUTES]]
    if settings.get("DisableScaleIn") or not calm or max(calm) >= IN_SHARE * target:
        return current
    return min(current, math.ceil(current * max(calm) / target))
