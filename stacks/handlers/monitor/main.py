"""Entry point: run every check, count the faults in metrics, publish them as events.

The heartbeat is published last, and only if no check failed: an alarm that treats missing data as
breaching watches it, and pages without this function.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import boto3

from . import (
    alarm_path,
    cluster_jobs,
    nan_losses,
    run_endings,
    serving,
    training_jobs,
    training_plans,
)
from .faults import FAULTS, HEARTBEAT, Fault, publish_events
from .job_faults import Thresholds
from .run_endings import RunEnding
from .scope import Scope


@dataclass(frozen=True)
class MonitorSettings:
    """Settings of the function, from its environment variable `SETTINGS`.

    Attributes:
        source: Source of the events.
        namespace: Namespace of the metrics.
        prefix: Prefix of the environment.
        environment: Value of the tag `Environment`; empty: the whole account.
        thresholds: Limits of jobs.
        serving: Limits of endpoints and models.
        devices: Number of accelerators, by instance type.
        plans: ARNs of training plans.
        models: Models of Bedrock that jobs may call.
        bedrock: The environment has a Bedrock stack.
        clusters: The environment has a HyperPod cluster.
        topics: ARNs of the topics that people subscribe to.
    """

    source: str
    namespace: str
    prefix: str
    environment: str
    thresholds: Mapping[str, int]
    serving: Mapping[str, int]
    devices: Mapping[str, int]
    plans: Sequence[str]
    models: Sequence[str]
    bedrock: bool
    clusters: bool
    topics: Sequence[str]


def handler(event: object, context: object) -> dict[str, int]:
    """Run as the Lambda entry point."""
    return monitor(
        client=boto3.client,
        settings=MonitorSettings(**json.loads(os.environ["SETTINGS"])),
        now=datetime.now(UTC),
    )


def monitor(
    *, client: Callable[[str], Any], settings: MonitorSettings, now: datetime
) -> dict[str, int]:
    """Run all checks, and report every fault as an event and in a metric, and every ended run.

    A check that fails does not keep the others from running.

    Args:
        client: Factory of clients by service name.
        settings: Settings of the environment.
        now: Current time.

    Returns:
        The number of resources with each fault.

    Raises:
        RuntimeError: If a check failed, so that Lambda counts an error and retries.
    """
    findings: list[Fault | RunEnding] = []
    failed: list[str] = []
    for name, run in checks(client, settings, now).items():
        try:
            findings += run()
        except Exception as error:
            sys.stderr.write(f"ERROR {name}: {error!r}\n")
            failed.append(f"{name}: {error}")
    faults = [finding for finding in findings if isinstance(finding, Fault)]
    counts = {fault: sum(f.fault == fault for f in faults) for fault in FAULTS}
    # A count of zero is not published: a metric costs by its existence, and none is no fault.
    values = {fault: count for fault, count in counts.items() if count}
    if not failed:
        values[HEARTBEAT] = 1
    if values:
        client("cloudwatch").put_metric_data(
            Namespace=settings.namespace,
            MetricData=[
                {"MetricName": name, "Value": value, "Unit": "Count", "Timestamp": now}
                for name, value in values.items()
            ],
        )
    events = [(finding.event, finding.detail()) for finding in findings]
    publish_events(client("events"), settings.source, events)
    if failed:
        raise RuntimeError(f"{len(failed)} checks failed: {'; '.join(failed)}")
    return counts


def checks(
    client: Callable[[str], Any], settings: MonitorSettings, now: datetime
) -> dict[str, Callable[[], Iterator[Fault | RunEnding]]]:
    """Return the checks of this environment by name.

    Args:
        client: Factory of clients by service name.
        settings: Settings of the environment.
        now: Current time.
    """
    sagemaker, cloudwatch = client("sagemaker"), client("cloudwatch")
    scope = Scope(settings.environment)
    limits, serving_limits = (
        Thresholds(**settings.thresholds),
        serving.ServingLimits(**settings.serving),
    )
    result: dict[str, Callable[[], Iterator[Fault | RunEnding]]] = {
        "training jobs": lambda: training_jobs.check(
            sagemaker,
            cloudwatch,
            scope=scope,
            limits=limits,
            devices=settings.devices,
            now=now,
        ),
        "NaN losses": lambda: nan_losses.check(client("logs"), sagemaker, scope=scope, now=now),
        "endpoints": lambda: serving.check_endpoints(
            sagemaker, cloudwatch, scope=scope, limits=serving_limits, now=now
        ),
        "alarm path": lambda: alarm_path.check(
            client("sns"), cloudwatch, topics=settings.topics, prefix=settings.prefix
        ),
    }
    if settings.clusters:
        result["runs on the cluster"] = lambda: cluster_jobs.check(
            cloudwatch, namespace=settings.namespace, limits=limits, now=now
        )
        result["ended runs"] = lambda: run_endings.check(
            cloudwatch, namespace=settings.namespace, now=now
        )
        result["training plans"] = lambda: training_plans.check(
            sagemaker, plans=settings.plans, now=now
        )
    if settings.bedrock or settings.models:
        result["Bedrock models"] = lambda: serving.check_models(
            client("bedrock"),
            cloudwatch,
            prefix=settings.prefix,
            models=settings.models,
            scope=scope,
            limits=serving_limits,
            now=now,
        )
    return result
