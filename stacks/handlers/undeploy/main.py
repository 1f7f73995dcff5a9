"""Entry point: remove what has reached its end or is idle, and count what stays.

Resources that are being created or changed, and throughput with a commitment, are left for a later
run. A failed removal does not prevent the others.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import boto3

from .endpoints import EndpointRemover, list_resources
from .rule import BilledResource, EndRule, Outcome
from .throughput import delete_throughput, list_throughputs

Remove = Callable[[BilledResource], bool]
# Metrics of each kind of resource: what is idle, past its end, and without one.
METRICS = {
    "throughput": {"idle": "bedrock-idle-throughput"},
    "endpoint": {"overdue": "deployment-overdue", "endless": "deployment-without-end"},
}


def handler(event: dict[str, Any], context: object) -> dict[str, list[str]]:
    """Run as the Lambda entry point; `event["only"]` is `all` or `idle`.

    Raises:
        ValueError: If it is neither.
        RuntimeError: If a removal failed.
    """
    default = os.environ.get("IDLE_HOURS")
    if event["only"] not in ("all", "idle"):
        raise ValueError(f"only: {event['only']!r} is neither 'all' nor 'idle'")
    rule = EndRule(datetime.now(UTC), int(default) if default else None, event["only"] == "all")
    return undeploy(
        client=boto3.client,
        rule=rule,
        kinds=os.environ["KINDS"].split(","),
        prefix=os.environ["PREFIX"],
        namespace=os.environ["NAMESPACE"],
    )


def undeploy(
    *,
    client: Callable[[str], Any],
    rule: EndRule,
    kinds: list[str],
    prefix: str,
    namespace: str,
) -> dict[str, list[str]]:
    """Remove the resources whose end the rule finds.

    Args:
        client: Factory of clients by service name.
        rule: The rule.
        kinds: Kinds of resources: `throughput`, and `endpoint` with its components.
        prefix: Prefix of the environment, which begins the names of its resources.
        namespace: Namespace of the metrics.

    Returns:
        Names of the resources that were deleted, kept, and failed to be deleted.

    Raises:
        RuntimeError: If a removal failed.
    """
    cloudwatch = client("cloudwatch")
    failed: list[str] = []
    result: dict[str, list[str]] = {"deleted": [], "kept": [], "failed": failed}
    values: dict[str, int] = {}
    for kind in kinds:
        resources, remove = _source(client, kind, prefix, rule.now)
        outcome = _remove(resources, remove, cloudwatch, rule)
        result["deleted"] += outcome.deleted
        result["kept"] += outcome.kept
        failed += outcome.failed
        values |= {name: getattr(outcome, count) for count, name in METRICS[kind].items()}
    cloudwatch.put_metric_data(
        Namespace=namespace,
        MetricData=[
            {"MetricName": name, "Value": value, "Unit": "Count", "Timestamp": rule.now}
            for name, value in values.items()
        ],
    )
    if failed:
        raise RuntimeError(f"could not delete {', '.join(failed)}")
    return result


def _source(
    client: Callable[[str], Any], kind: str, prefix: str, now: datetime
) -> tuple[Iterator[BilledResource], Remove]:
    if kind == "throughput":
        bedrock = client("bedrock")
        return (
            list_throughputs(bedrock, prefix, now),
            lambda resource: delete_throughput(bedrock, resource.name),
        )
    sagemaker = client("sagemaker")
    remover = EndpointRemover(
        sagemaker, client("application-autoscaling"), client("cloudformation"), prefix
    )
    return list_resources(sagemaker, prefix), remover.remove


def _remove(
    resources: Iterator[BilledResource], remove: Remove, cloudwatch: Any, rule: EndRule
) -> Outcome:
    outcome = Outcome()
    for resource in list(resources):
        verdict = rule.judge(cloudwatch, resource)
        outcome.endless += verdict.endless
        gone = False
        if verdict.ended and resource.removable:
            gone = remove(resource)
            _log({"removed" if gone else "not removed": resource.name, "why": verdict.ended})
            (outcome.deleted if gone else outcome.failed).append(resource.name)
        else:
            outcome.kept.append(resource.name)
        outcome.overdue += verdict.overdue
        # The nightly removal of everything is no statement about idleness.
        outcome.idle += verdict.idle and not (gone and not rule.everything)
    return outcome


def _log(entry: Mapping[str, str]) -> None:
    sys.stdout.write(json.dumps(entry) + "\n")
