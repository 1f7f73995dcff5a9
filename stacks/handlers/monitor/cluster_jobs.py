"""Check of the runs on a HyperPod cluster, which publish their own metrics.

Their names, dimensions and periods are those of `catalog/run_metrics.py`.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from .faults import Fault
from .job_faults import HostMetrics, JobMetrics, Thresholds, find_faults
from .metric_data import Series, metric_query, read_series

LOOK_BACK = timedelta(hours=2)
# `running` comes each minute; a job without it for longer has ended.
ENDED_AFTER_MINUTES = 10
# More than the five minutes between two checks; the same fault is published once.
RECENT_MINUTES = 10
# Exit codes of an invalid job file and of invalid data (`catalog/exit_codes.py`), which need no
# operator.
OWNERS_ERRORS = (2, 3)
JOB_METRICS = ("running", "loss", "tokens_per_second", "loss_not_finite", "failed")
HOST_METRICS = ("GPUUtilization", "GPUMemoryUtilization", "GPUCount", "DiskUtilization")


def check(cloudwatch: Any, *, namespace: str, limits: Thresholds, now: datetime) -> Iterator[Fault]:
    """Yield the faults of the runs that published metrics in the last two hours.

    Args:
        cloudwatch: CloudWatch client.
        namespace: Namespace of the environment.
        limits: Thresholds of the environment.
        now: Current time.
    """
    jobs = sorted(_dimension_values(cloudwatch, namespace, JOB_METRICS, "TrainingJobName"))
    hosts = sorted(_dimension_values(cloudwatch, namespace, HOST_METRICS, "Host"))
    if not jobs:
        return
    queries = {
        (name, metric): metric_query(namespace, metric, {dimension: name})
        for dimension, names, metrics in (
            ("TrainingJobName", jobs, JOB_METRICS),
            ("Host", hosts, HOST_METRICS),
        )
        for name in names
        for metric in metrics
    }
    texts = {f"{name}|{metric}": query for (name, metric), query in queries.items()}
    series = read_series(cloudwatch, texts, now - LOOK_BACK, now)
    for job in jobs:
        yield from _job_faults(job, hosts, series, limits, now)


def _job_faults(
    job: str,
    hosts: list[str],
    series: Mapping[str, Series],
    limits: Thresholds,
    now: datetime,
) -> Iterator[Fault]:
    def of(name: str, metric: str) -> Series:
        return series[f"{name}|{metric}"]

    def recent(metric: str) -> bool:
        age = of(job, metric).age_minutes(now)
        return age is not None and age <= RECENT_MINUTES

    ended = recent("failed")
    code = int(of(job, "failed").values[0]) if ended else 0
    if ended and code not in OWNERS_ERRORS:
        yield Fault(job, "cluster-job-failed", f"the run ended with exit code {code}")
    if recent("loss_not_finite"):
        yield Fault(job, "loss-is-nan", "the run measured a NaN or infinite loss")
    running = of(job, "running")
    age = running.age_minutes(now)
    if age is None or age > ENDED_AFTER_MINUTES or ended:
        return
    metrics = JobMetrics(
        running_minutes=(now - running.timestamps[-1]).total_seconds() / 60,
        logs_loss=True,
        loss_age=of(job, "loss").age_minutes(now),
        speed=of(job, "tokens_per_second").values,
        hosts={
            int(host.rpartition("-")[2]): HostMetrics(
                gpu=of(host, "GPUUtilization").values,
                memory=of(host, "GPUMemoryUtilization").values,
                disk=of(host, "DiskUtilization").values,
                devices=int(max(of(host, "GPUCount").values, default=0)),
            )
            for host in hosts
            if host.rpartition("/algo-")[0] == job
        },
    )
    yield from find_faults(job, metrics, limits)


def _dimension_values(
    cloudwatch: Any, namespace: str, metrics: tuple[str, ...], dimension: str
) -> set[str]:
    """Return the values of a dimension among the metrics of the last three hours."""
    values: set[str] = set()
    for metric in metrics:
        pages = cloudwatch.get_paginator("list_metrics").paginate(
            Namespace=namespace,
            MetricName=metric,
            Dimensions=[{"Name": dimension}],
            RecentlyActive="PT3H",
        )
        for page in pages:
            for found in page["Metrics"]:
                values |= {d["Value"] for d in found["Dimensions"] if d["Name"] == dimension}
    return values
