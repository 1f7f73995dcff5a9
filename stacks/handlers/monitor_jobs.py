"""Lambda function that checks running training jobs: stuck, slow, idle GPUs, full memory or disk.

SageMaker has no metric for any of these. The GPU metrics of a host are sums over its devices (800
for
eight busy GPUs), so they are divided by the number of devices of the instance type.
"""

import json
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import boto3

JOBS = "/aws/sagemaker/TrainingJobs"
HOUR = timedelta(hours=1)
FAULTS = (
    "training-job-stuck",
    "training-job-slow",
    "gpu-idle",
    "gpu-memory-full",
    "training-disk-full",
)
ENTRIES_PER_CALL = 10
QUERIES_PER_CALL = 500


@dataclass(frozen=True)
class Thresholds:
    """Limits from which on a metric is a fault."""

    stuck_minutes: int
    slow_percent: int
    gpu_idle_percent: int
    gpu_memory_percent: int
    disk_percent: int


@dataclass(frozen=True)
class JobFault:
    """Fault of one job, named like its alarm and runbook."""

    job: str
    fault: str
    reason: str


def handler(event: object, context: object) -> dict[str, int]:
    """Run as the Lambda entry point."""
    return monitor(
        sagemaker=boto3.client("sagemaker"),
        cloudwatch=boto3.client("cloudwatch"),
        events=boto3.client("events"),
        source=os.environ["SOURCE"],
        namespace=os.environ["NAMESPACE"],
        thresholds=Thresholds(**json.loads(os.environ["THRESHOLDS"])),
        devices=json.loads(os.environ["DEVICES"]),
        now=datetime.now(timezone.utc),  # noqa: UP017 - Lambda's runtime may be 3.10 to 3.13
    )


def monitor(
    *,
    sagemaker: Any,
    cloudwatch: Any,
    events: Any,
    source: str,
    namespace: str,
    thresholds: Thresholds,
    devices: Mapping[str, int],
    now: datetime,
) -> dict[str, int]:
    """Report every fault of every running job, as an event and in a metric.

    Args:
        sagemaker: SageMaker client.
        cloudwatch: CloudWatch client.
        events: EventBridge client.
        source: Source of the events.
        namespace: Namespace of the metrics.
        thresholds: Limits of the environment.
        devices: Number of accelerators, by instance type.
        now: Current time.

    Returns:
        The number of jobs with each fault.
    """
    faults: list[JobFault] = []
    for job in running_jobs(sagemaker):
        metrics = read_metrics(cloudwatch, job, now)
        faults += find_faults(job, metrics, thresholds, devices, now)
    counts = {fault: sum(f.fault == fault for f in faults) for fault in FAULTS}
    cloudwatch.put_metric_data(
        Namespace=namespace,
        MetricData=[
            {"MetricName": fault, "Value": number, "Unit": "Count", "Timestamp": now}
            for fault, number in counts.items()
        ],
    )
    publish_faults(events, source, faults)
    return counts


def running_jobs(sagemaker: Any) -> Iterator[dict[str, Any]]:
    """Yield the jobs that are training now.

    A job that uploads its model, or waits for Spot capacity after an interruption, is in progress
    too, but has no metrics then.
    """
    pages = sagemaker.get_paginator("list_training_jobs").paginate(StatusEquals="InProgress")
    for page in pages:
        for summary in page["TrainingJobSummaries"]:
            job = sagemaker.describe_training_job(TrainingJobName=summary["TrainingJobName"])
            training = job.get("SecondaryStatus") == "Training" and "TrainingStartTime" in job
            if job["TrainingJobStatus"] == "InProgress" and training:
                yield job


def read_metrics(cloudwatch: Any, job: Mapping[str, Any], now: datetime) -> dict[str, list[float]]:
    """Return the metrics of a job over the last two hours, newest first.

    Args:
        cloudwatch: CloudWatch client.
        job: Description of the job by SageMaker.
        now: Current time.

    Returns:
        Values of `loss` and `speed`; of `gpu/<host>`, `memory/<host>` and `disk/<host>` for each
            host;
        and of `loss age`, the minutes since the last loss.
    """
    hosts = range(1, _instance_count(job) + 1)
    query_by_key = {
        "loss": _query("loss", "TrainingJobName", job["TrainingJobName"]),
        "speed": _query("tokens_per_second", "TrainingJobName", job["TrainingJobName"]),
    }
    for host in hosts:
        host_name = f"{job['TrainingJobName']}/algo-{host}"
        query_by_key[f"gpu/{host}"] = _query("GPUUtilization", "Host", host_name)
        query_by_key[f"memory/{host}"] = _query("GPUMemoryUtilization", "Host", host_name)
        query_by_key[f"disk/{host}"] = _query("DiskUtilization", "Host", host_name)
    keys, queries = (
        list(query_by_key),
        [{"Id": f"q{i}", **q} for i, q in enumerate(query_by_key.values())],
    )
    metrics: dict[str, list[float]] = {key: [] for key in keys}
    for start in range(0, len(queries), QUERIES_PER_CALL):
        pages = cloudwatch.get_paginator("get_metric_data").paginate(
            MetricDataQueries=queries[start : start + QUERIES_PER_CALL],
            StartTime=now - 2 * HOUR,
            EndTime=now,
            ScanBy="TimestampDescending",
        )
        for page in pages:
            for result in page["MetricDataResults"]:
                key = keys[int(result["Id"][1:])]
                metrics[key] += result["Values"]
                if key == "loss" and result["Timestamps"]:
                    age = now - result["Timestamps"][0]
                    metrics.setdefault("loss age", []).append(age.total_seconds() / 60)
    return metrics


def find_faults(
    job: Mapping[str, Any],
    metrics: Mapping[str, Sequence[float]],
    limits: Thresholds,
    devices: Mapping[str, int],
    now: datetime,
) -> Iterator[JobFault]:
    """Yield the faults of one job.

    Args:
        job: Description of the job by SageMaker.
        metrics: Metrics as `read_metrics` returns them.
        limits: Thresholds of the environment.
        devices: Number of accelerators, by instance type.
        now: Current time.
    """
    name = job["TrainingJobName"]
    running = (now - _training_since(job)).total_seconds() / 60
    silent = min([running, *metrics.get("loss age", [])])
    if silent >= limits.stuck_minutes and _logs_loss(job):
        yield JobFault(name, "training-job-stuck", f"no new loss for {silent:.0f} minutes")
    speed = metrics.get("speed", [])
    if len(speed) >= 30:
        recent, usual = statistics.median(speed[:10]), statistics.median(speed[10:])
        if recent < usual * limits.slow_percent / 100:
            yield JobFault(name, "training-job-slow", f"{recent:.0f} tokens/s, usually {usual:.0f}")
    yield from _host_faults(name, metrics, limits, devices.get(_instance_type(job), 0))


def _training_since(job: Mapping[str, Any]) -> datetime:
    """Return when the job began to train, or resumed after an interruption of its Spot hosts."""
    started: list[datetime] = [job["TrainingStartTime"]]
    for transition in job.get("SecondaryStatusTransitions", []):
        if transition["Status"] == "Training":
            started.append(transition["StartTime"])
    return max(started)


def _logs_loss(job: Mapping[str, Any]) -> bool:
    """Return whether SageMaker reads a loss from the job's log; jobs of others may have none."""
    metrics = job.get("AlgorithmSpecification", {}).get("MetricDefinitions", [])
    return any(metric["Name"] == "loss" for metric in metrics)


def _host_faults(
    name: str, metrics: Mapping[str, Sequence[float]], limits: Thresholds, devices: int
) -> Iterator[JobFault]:
    for key, values in metrics.items():
        kind, _, host = key.partition("/")
        recent = values[:30]  # one value per minute: the last half hour
        if not host or not recent:
            continue
        if kind == "disk" and recent[0] >= limits.disk_percent:
            yield JobFault(name, "training-disk-full", f"disk of host {host} at {recent[0]:.0f} %")
        if not devices:
            continue
        if kind == "gpu" and len(recent) == 30 and max(recent) / devices < limits.gpu_idle_percent:
            busy = max(recent) / devices
            yield JobFault(name, "gpu-idle", f"GPUs of host {host} at most {busy:.0f} % busy")
        if kind == "memory" and recent[0] / devices >= limits.gpu_memory_percent:
            full = recent[0] / devices
            yield JobFault(name, "gpu-memory-full", f"GPU memory of host {host} at {full:.0f} %")


def publish_faults(events: Any, source: str, faults: Sequence[JobFault]) -> None:
    """Put each fault on the event bus.

    Args:
        events: EventBridge client.
        source: Source of the events.
        faults: Faults to publish.

    Raises:
        RuntimeError: If EventBridge refuses an entry, so that Lambda retries the invocation.
    """
    entries = [
        {
            "Source": source,
            "DetailType": "Temper Fault",
            "Detail": json.dumps({"job": f.job, "fault": f.fault, "reason": f.reason}),
        }
        for f in faults
    ]
    refused = 0
    for start in range(0, len(entries), ENTRIES_PER_CALL):
        answer = events.put_events(Entries=entries[start : start + ENTRIES_PER_CALL])
        refused += answer["FailedEntryCount"]
    if refused:
        raise RuntimeError(f"{refused} of {len(entries)} fault events were refused by EventBridge")


def _instance_type(job: Mapping[str, Any]) -> str:
    """Return the type that runs; a job with fallbacks names the one SageMaker selected."""
    resources = job["ResourceConfig"]
    return str(resources.get("SelectedInstanceType") or resources.get("InstanceType", ""))


def _instance_count(job: Mapping[str, Any]) -> int:
    resources = job["ResourceConfig"]
    return int(resources.get("SelectedInstanceCount") or resources.get("InstanceCount", 1))


def _query(metric: str, dimension: str, value: str) -> dict[str, Any]:
    return {
        "MetricStat": {
            "Metric": {
                "Namespace": JOBS,
                "MetricName": metric,
                "Dimensions": [{"Name": dimension, "Value": value}],
            },
            "Period": 60,
            "Stat": "Average",
        }
    }
