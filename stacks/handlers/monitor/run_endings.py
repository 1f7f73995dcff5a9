"""Ends of runs on a HyperPod cluster, which become events with the name of their creator.

SageMaker sends an event when a training job ends; a run on a cluster publishes a metric instead
(`catalog/run_metrics.py`), so that its nodes need neither another permission nor another endpoint.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import unquote

from .metric_data import metric_query, read_series

JOB, CREATOR, ENDED = "TrainingJobName", "Creator", "ended"
# CloudWatch lists a new metric after up to 15 minutes; an end that is found again is published once
# (`publish_event`).
# docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_ListMetrics.html
LOOK_BACK = timedelta(hours=2)
# Exit code of a run that was stopped after it saved a checkpoint (`catalog/exit_codes.py`).
STOPPED = 75


@dataclass(frozen=True)
class RunEnding:
    """End of one run.

    Attributes:
        job: Name of the job.
        creator: Login name of the person who submitted it.
        code: Exit code.
    """

    job: str
    creator: str
    code: int
    event: ClassVar[str] = "Temper Run Ended"

    @property
    def state(self) -> str:
        """State of the run, spelled as SageMaker spells that of a training job."""
        return {0: "Completed", STOPPED: "Stopped"}.get(self.code, "Failed")

    def detail(self) -> dict[str, str]:
        """Return the detail of the event."""
        reason = f"the run ended with exit code {self.code}"
        return {"job": self.job, "creator": self.creator, "status": self.state, "reason": reason}


def check(cloudwatch: Any, *, namespace: str, now: datetime) -> Iterator[RunEnding]:
    """Yield the runs whose end was published in the last two hours.

    Args:
        cloudwatch: CloudWatch client.
        namespace: Namespace of the environment.
        now: Current time.
    """
    runs = sorted(
        {run for metric in ("running", ENDED) for run in _listed(cloudwatch, namespace, metric)}
    )
    queries = {
        f"{index}": metric_query(
            namespace, ENDED, {JOB: job, CREATOR: creator}, statistic="Maximum"
        )
        for index, (job, creator) in enumerate(runs)
    }
    if not queries:
        return
    series = read_series(cloudwatch, queries, now - LOOK_BACK, now)
    for index, (job, creator) in enumerate(runs):
        if values := series[f"{index}"].values:
            yield RunEnding(job, unquote(creator), int(values[0]))


def _listed(cloudwatch: Any, namespace: str, metric: str) -> Iterator[tuple[str, str]]:
    """Yield the job and the creator of each such metric of the last three hours."""
    pages = cloudwatch.get_paginator("list_metrics").paginate(
        Namespace=namespace,
        MetricName=metric,
        Dimensions=[{"Name": JOB}, {"Name": CREATOR}],
        RecentlyActive="PT3H",
    )
    for page in pages:
        for found in page["Metrics"]:
            values = {d["Name"]: d["Value"] for d in found["Dimensions"]}
            yield values[JOB], values[CREATOR]
