"""Check of the running SageMaker training jobs of the environment."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from .faults import Fault
from .job_faults import HostMetrics, JobMetrics, Thresholds, find_faults
from .metric_data import metric_query, read_series
from .scope import Scope

NAMESPACE = "/aws/sagemaker/TrainingJobs"
LOOK_BACK = timedelta(hours=2)
# Before "Training" a job waits for capacity, fetches its data or its image.
WAITING_FOR_CAPACITY = ("Starting", "Pending", "LaunchingMLInstances", "PreparingTrainingStack")


def check(
    sagemaker: Any,
    cloudwatch: Any,
    *,
    scope: Scope,
    limits: Thresholds,
    devices: Mapping[str, int],
    now: datetime,
) -> Iterator[Fault]:
    """Yield the faults of the jobs in progress.

    Only a job whose secondary status is `Training` is judged by its metrics: a job that downloads,
    uploads its model, or waits for Spot capacity after an interruption has none.

    Args:
        sagemaker: SageMaker client.
        cloudwatch: CloudWatch client.
        scope: Which jobs concern the environment.
        limits: Thresholds of the environment.
        devices: Number of accelerators, by instance type.
        now: Current time.
    """
    for job in jobs_in_progress(sagemaker, scope):
        name, status = job["TrainingJobName"], job.get("SecondaryStatus")
        if status == "Training" and "TrainingStartTime" in job:
            metrics = read_metrics(cloudwatch, job, devices, now)
            yield from find_faults(name, metrics, limits)
        elif status in WAITING_FOR_CAPACITY:
            waiting = _minutes(_last_transition(job), now)
            if waiting >= limits.pending_minutes:
                yield Fault(name, "training-job-pending", f"{status} for {waiting:.0f} minutes")


def jobs_in_progress(sagemaker: Any, scope: Scope) -> Iterator[dict[str, Any]]:
    """Yield the descriptions of the jobs in progress that concern the environment."""
    pages = sagemaker.get_paginator("list_training_jobs").paginate(StatusEquals="InProgress")
    for page in pages:
        for summary in page["TrainingJobSummaries"]:
            if not scope.covers_sagemaker(sagemaker, summary["TrainingJobArn"]):
                continue
            job = sagemaker.describe_training_job(TrainingJobName=summary["TrainingJobName"])
            if job["TrainingJobStatus"] == "InProgress":
                yield job


def read_metrics(
    cloudwatch: Any, job: Mapping[str, Any], devices: Mapping[str, int], now: datetime
) -> JobMetrics:
    """Return the metrics of a job over the last two hours.

    Args:
        cloudwatch: CloudWatch client.
        job: Description of the job by SageMaker.
        devices: Number of accelerators, by instance type.
        now: Current time.
    """
    name, hosts = job["TrainingJobName"], range(1, _instance_count(job) + 1)
    queries = {
        "loss": metric_query(NAMESPACE, "loss", {"TrainingJobName": name}),
        "speed": metric_query(NAMESPACE, "tokens_per_second", {"TrainingJobName": name}),
    }
    for host in hosts:
        for key, metric in (
            ("gpu", "GPUUtilization"),
            ("memory", "GPUMemoryUtilization"),
            ("disk", "DiskUtilization"),
        ):
            dimensions = {"Host": f"{name}/algo-{host}"}
            queries[f"{key}/{host}"] = metric_query(NAMESPACE, metric, dimensions)
    series = read_series(cloudwatch, queries, now - LOOK_BACK, now)
    return JobMetrics(
        running_minutes=_minutes(_training_since(job), now),
        logs_loss=_logs_loss(job),
        loss_age=series["loss"].age_minutes(now),
        speed=series["speed"].values,
        hosts={
            host: HostMetrics(
                gpu=series[f"gpu/{host}"].values,
                memory=series[f"memory/{host}"].values,
                disk=series[f"disk/{host}"].values,
                devices=devices.get(_instance_type(job), 0),
            )
            for host in hosts
        },
    )


def _minutes(since: datetime, now: datetime) -> float:
    return (now - since).total_seconds() / 60


def _last_transition(job: Mapping[str, Any]) -> datetime:
    """Return when the job began to wait: its creation, or its last interruption."""
    moments = [job["CreationTime"]]
    moments += [
        transition["StartTime"]
        for transition in job.get("SecondaryStatusTransitions", [])
        if transition["Status"] not in WAITING_FOR_CAPACITY
    ]
    latest: datetime = max(moments)
    return latest


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


def _instance_type(job: Mapping[str, Any]) -> str:
    """Return the type that runs; a job with fallbacks names the one SageMaker selected."""
    resources = job["ResourceConfig"]
    return str(resources.get("SelectedInstanceType") or resources.get("InstanceType", ""))


def _instance_count(job: Mapping[str, Any]) -> int:
    resources = job["ResourceConfig"]
    return int(resources.get("SelectedInstanceCount") or resources.get("InstanceCount", 1))
