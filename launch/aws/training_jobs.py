"""SageMaker training jobs: create at most once, describe, stop."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from botocore import exceptions as aws

from catalog.prices import price
from launch.aws.named_jobs import create_job, find_job
from launch.aws.session import explain_aws_errors
from launch.errors import LaunchError
from launch.status import State, Status

STATES: dict[str, State] = {
    "InProgress": "training",
    "Completed": "not deployed",
    "Failed": "training failed",
    "Stopping": "stopping",
    "Stopped": "stopped",
}
"""State of a run by the status of its job, which SageMaker and Bedrock name alike."""
_DETAILS = {
    "Starting": "starting its machines",
    "Pending": "waiting for capacity",
    "Downloading": "downloading its data",
    "Interrupted": "interrupted, waiting for spot capacity",
    "Uploading": "uploading its model",
    "Restarting": "restarting after a fault of the service",
    "MaxRuntimeExceeded": "exceeded max_runtime",
    "MaxWaitTimeExceeded": "exceeded max_wait",
}


class TrainingJobs:
    """Training jobs of an account.

    Args:
        sagemaker: boto3 client of `sagemaker`.
    """

    def __init__(self, sagemaker: Any):
        self._sagemaker = sagemaker

    def create(self, request: dict[str, Any]) -> str:
        """Create a job, or find the one that an earlier call created; return its ARN.

        Raises:
            LaunchError: The job cannot be created, or the name belongs to another job.
        """
        name = request["TrainingJobName"]
        created = create_job(
            f"the training job {name}",
            lambda: self._sagemaker.create_training_job(**request),
            lambda: self._describe(name),
            lambda error: _explain_quota(request, error),
        )
        if created is not None:
            return str(created["TrainingJobArn"])
        existing = self.find(name)
        # Output paths contain the run id, so a job of another run never has the same one.
        if existing is None or _output_path(existing) != _output_path(request):
            raise LaunchError(
                f"the name {name} is taken by another training job of this account. --fresh starts "
                "the run under a new one"
            )
        return str(existing["TrainingJobArn"])

    def find(self, name: str) -> dict[str, Any] | None:
        """Return the description of a job, or None if SageMaker says that no job has this name.

        Raises:
            LaunchError: SageMaker could not be asked, which says nothing about the job.
        """
        return find_job(f"the training job {name}", lambda: self._describe(name))

    def stop(self, name: str) -> str:
        """Stop a running job; return a message for the user.

        Raises:
            LaunchError: The job is uploading its model, which stopping it could lose.
        """
        job = self.find(name)
        assert job is not None, "the caller looked it up"
        if job["TrainingJobStatus"] != "InProgress":
            return f"{name} is {STATES[job['TrainingJobStatus']]} already"
        if job.get("SecondaryStatus") == "Uploading":
            raise LaunchError(
                f"{name} has finished training and is uploading its model, which stopping it could "
                "lose. It ends in a moment: temper status"
            )
        with explain_aws_errors(f"stopping {name}"):
            self._sagemaker.stop_training_job(TrainingJobName=name)
        return f"{name} was told to stop; it has two minutes to save a checkpoint"

    def _describe(self, name: str) -> Mapping[str, Any]:
        description: Mapping[str, Any] = self._sagemaker.describe_training_job(TrainingJobName=name)
        return description


def read_status(job: Mapping[str, Any], previous_seconds: float = 0.0) -> Status:
    """Return the status of a job.

    Args:
        job: Description of the job by SageMaker.
        previous_seconds: Machine time of the run's earlier attempts.
    """
    metrics = {m["MetricName"]: m["Value"] for m in job.get("FinalMetricDataList", ())}
    seconds = billable_seconds(job) + previous_seconds
    state = STATES[job["TrainingJobStatus"]]
    reason = str(job.get("FailureReason", "")) if state == "training failed" else ""
    return Status(
        state=state,
        detail=reason or _DETAILS.get(job.get("SecondaryStatus", ""), ""),
        step=int(metrics["step"]) if "step" in metrics else None,
        loss=metrics.get("loss"),
        seconds=seconds,
        cost_usd=_cost_usd(job, seconds),
    )


def billable_seconds(job: Mapping[str, Any]) -> float:
    """Return the machine time of a job as it is billed; for a running job, the time so far."""
    if "BillableTimeInSeconds" in job:
        return float(job["BillableTimeInSeconds"])
    start, end = job.get("TrainingStartTime"), job.get("TrainingEndTime")
    if start is None:
        return 0.0
    return float((end.timestamp() if end else time.time()) - start.timestamp())


def _cost_usd(job: Mapping[str, Any], seconds: float) -> float | None:
    """Return an upper bound of a job's cost in US dollars.

    For spot jobs the service already shortens the billable time by the discount, and the price
    here is the on-demand one.
    """
    config = job.get("ResourceConfig") or {}  # absent for serverless customization
    hourly = price(config.get("SelectedInstanceType") or config.get("InstanceType") or "")
    if hourly is None:
        return None
    count = config.get("SelectedInstanceCount") or config.get("InstanceCount") or 1
    return float(seconds / 3600 * count * hourly.on_demand_usd)


def _output_path(job: Mapping[str, Any]) -> str:
    return str(job["OutputDataConfig"]["S3OutputPath"])


def _explain_quota(request: Mapping[str, Any], error: aws.ClientError) -> str:
    config = request["ResourceConfig"]
    types = [p["InstanceType"] for p in config.get("InstancePreferences", ())]
    instance_type = config.get("InstanceType") or types[0]
    usage = "spot training job" if request.get("EnableManagedSpotTraining") else "training job"
    message = str(error.response["Error"].get("Message", "")).strip()
    return (
        f"the account's quota does not allow this job ({message}). Ask for more of "
        f"'{instance_type} for {usage} usage' in Service Quotas, or choose another "
        "resources.instance"
    )
