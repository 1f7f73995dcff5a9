"""Deployment guardrails: rules of a `DeploymentConfig`, and the steps that it means.

https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from emulator.request_validation import Client, reject

_DEFAULT_TIMEOUT_S = 28_800


@dataclass(frozen=True)
class TrafficStep:
    """Step of a deployment.

    Attributes:
        share: Share of the traffic that the new fleet has from now on.
        bake_s: Seconds for which alarms are watched before the next step.
    """

    share: Fraction
    bake_s: float


@dataclass(frozen=True)
class RolloutPlan:
    """Steps of a deployment.

    Attributes:
        steps: The steps, of which the last one has all traffic.
        alarms: Names of the alarms that roll it back.
        timeout_s: Seconds after which it is rolled back.
        rolling: Whether instances are replaced in batches instead of a second fleet.
    """

    steps: tuple[TrafficStep, ...]
    alarms: tuple[str, ...] = ()
    timeout_s: float = _DEFAULT_TIMEOUT_S
    rolling: bool = False


ALL_AT_ONCE = RolloutPlan((TrafficStep(Fraction(1), 0.0),))
"""Plan of an update without guardrails: everything at once, nothing watched."""


def plan_deployment(config: Mapping[str, Any] | None, instances: int) -> RolloutPlan:
    """Return the steps of a deployment configuration.

    Args:
        config: The configuration.
        instances: Number of instances of the fleet.
    """
    if not config:
        return ALL_AT_ONCE
    alarms = tuple(
        alarm["AlarmName"]
        for alarm in config.get("AutoRollbackConfiguration", {}).get("Alarms", ())
    )
    if "RollingUpdatePolicy" in config:
        policy = config["RollingUpdatePolicy"]
        steps = _even_steps(policy["MaximumBatchSize"], policy["WaitIntervalInSeconds"], instances)
        last = TrafficStep(Fraction(1), policy["WaitIntervalInSeconds"])
        timeout = policy.get("MaximumExecutionTimeoutInSeconds", _DEFAULT_TIMEOUT_S)
        return RolloutPlan((*steps, last), alarms, timeout, rolling=True)
    policy = config.get("BlueGreenUpdatePolicy")
    if not policy:
        return RolloutPlan(ALL_AT_ONCE.steps, alarms)
    routing, steps = policy["TrafficRoutingConfiguration"], ()
    if routing["Type"] == "CANARY":
        share = _share(routing["CanarySize"], instances)
        steps = (TrafficStep(share, routing["WaitIntervalInSeconds"]),)
    elif routing["Type"] == "LINEAR":
        wait = routing["WaitIntervalInSeconds"]
        steps = _even_steps(routing["LinearStepSize"], wait, instances)
    last = TrafficStep(Fraction(1), policy.get("TerminationWaitInSeconds", 0))
    timeout = policy.get("MaximumExecutionTimeoutInSeconds", _DEFAULT_TIMEOUT_S)
    return RolloutPlan((*steps, last), alarms, timeout)


def _even_steps(size: Mapping[str, Any], wait_s: float, instances: int) -> tuple[TrafficStep, ...]:
    """Return the steps before the last one."""
    share = _share(size, instances)
    count = -(-1 // share) - 1
    return tuple(TrafficStep(share * (n + 1), wait_s) for n in range(int(count)))


def _share(size: Mapping[str, Any], instances: int) -> Fraction:
    """Return a size as a share; at least one instance, since instances are not divided."""
    if size["Type"] != "CAPACITY_PERCENT":
        return Fraction(size["Value"], instances)
    whole = max(1, int(Fraction(size["Value"], 100) * instances))
    return Fraction(whole, instances)


def check_deployment_config(
    config: Mapping[str, Any] | None, instances: int, variants: int, client: Client
) -> None:
    """Reject a deployment configuration that the service would reject.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_TrafficRoutingConfig.html
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_RollingUpdatePolicy.html
    https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-exclusions.html

    Args:
        config: The configuration.
        instances: Number of instances of the smallest fleet.
        variants: Number of production variants.
        client: Returns the boto3 client of a service of the emulated account.
    """
    if not config:
        return
    if "BlueGreenUpdatePolicy" in config and "RollingUpdatePolicy" in config:
        reject("Only one of BlueGreenUpdatePolicy and RollingUpdatePolicy can be specified.")
    if "RollingUpdatePolicy" in config:
        if variants > 1:
            reject("Rolling deployments are not supported for endpoints with several variants.")
        _check_size("MaximumBatchSize", config["RollingUpdatePolicy"], (5, 50), instances)
    elif policy := config.get("BlueGreenUpdatePolicy"):
        _check_blue_green(policy, instances)
    names = [
        alarm.get("AlarmName", "")
        for alarm in config.get("AutoRollbackConfiguration", {}).get("Alarms", ())
    ]
    if names:
        found = client("cloudwatch").describe_alarms(AlarmNames=names)
        known = {a["AlarmName"] for key in ("MetricAlarms", "CompositeAlarms") for a in found[key]}
        if missing := [name for name in names if name not in known]:
            reject(f"Could not find alarm(s) {', '.join(missing)} of AutoRollbackConfiguration.")


def _check_blue_green(policy: Mapping[str, Any], instances: int) -> None:
    routing = policy["TrafficRoutingConfiguration"]
    sizes = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}
    wanted = sizes.get(routing["Type"])
    for key in sizes.values():
        if key in routing and key != wanted:
            reject(f"{key} cannot be specified for traffic routing of type {routing['Type']}.")
    if wanted and wanted not in routing:
        reject(f"{wanted} is required for traffic routing of type {routing['Type']}.")
    if wanted == "CanarySize":
        _check_size(wanted, routing, (1, 50), instances)
    elif wanted:
        _check_size(wanted, routing, (10, 50), instances)
    waits = sum(
        step.bake_s for step in plan_deployment({"BlueGreenUpdatePolicy": policy}, instances).steps
    )
    limit = policy.get("MaximumExecutionTimeoutInSeconds")
    if limit is not None and limit <= waits:
        reject(
            f"MaximumExecutionTimeoutInSeconds {limit} must exceed the total of WaitInterval"
            f"InSeconds and TerminationWaitInSeconds, {waits:g}."
        )


def _check_size(
    key: str, holder: Mapping[str, Any], percent: tuple[int, int], instances: int
) -> None:
    size = holder[key]
    share = (
        Fraction(size["Value"], 100)
        if size["Type"] == "CAPACITY_PERCENT"
        else Fraction(size["Value"], instances)
    )
    least, most = percent
    # One instance of few may be more than the limit, and is the least that can be shifted.
    smallest = size["Type"] == "INSTANCE_COUNT" and size["Value"] == 1 and instances > 1
    if not Fraction(least, 100) <= share <= Fraction(most, 100) and not (
        smallest and share <= Fraction(1, 2)
    ):
        reject(
            f"{key} must be from {least} to {most} percent of the {instances} instance(s) of the "
            f"variant, and {size['Value']} {size['Type']} is {float(share):.0%}."
        )
