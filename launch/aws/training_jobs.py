"""The training jobs of an account: made at most once, looked at, stopped."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from botocore import exceptions as aws

from catalog.prices import price
from launch.aws.session import code_of, explained
from launch.errors import LaunchError
from launch.status import State, Status

_STATES: dict[str, State] = {
    "InProgress": "training",
    "Completed": "not deployed",
    "Failed": "training failed",
    "Stopping": "stopping",
    "Stopped": "stopped",
}
_DETAILS = {
    "Starting": "starting its machines",
    "Pending": "waiting for capacity",
    "Downloading": "fetching its data",
    "Interrupted": "interrupted, waiting for spot capacity",
    "Uploading": "uploading its model",
    "Restarting": "starting again after a fault of the service",
    "MaxRuntimeExceeded": "ran into max_runtime",
    "MaxWaitTimeExceeded": "waited longer than max_wait",
}
_UNKNOWN = ("ValidationException", "ValidationError", "ResourceNotFound")


class TrainingJobs:
    """What SageMaker knows of training jobs.

    Args:
        sagemaker: A client.
    """

    def __init__(self, sagemaker: Any):
        self._sagemaker = sagemaker

    def create(self, request: dict[str, Any]) -> str:
        """Create the job, or find out that it was created already; return its ARN.

        The name was chosen and written down before: if the answer to an earlier call was lost, the
        job is there under this very name, and a second one cannot be made.

        Raises:
            LaunchError: It cannot be made, or the name is somebody else's.
        """
        name = request["TrainingJobName"]
        with explained(f"creating the training job {name}"):
            try:
                return str(self._sagemaker.create_training_job(**request)["TrainingJobArn"])
            except aws.ClientError as error:
                if code_of(error) == "ResourceLimitExceeded":
                    raise LaunchError(_explain_quota(request, error)) from None
                if code_of(error) != "ResourceInUse":
                    raise
            except (aws.HTTPClientError, aws.ConnectionError):
                # No answer: whether it was made is only known by asking for its name.
                if self.find(name) is None:
                    raise
        found = self.find(name)
        if found is None or _output(found) != _output(request):
            raise LaunchError(
                f"the name {name} is taken by another training job of this account. FRESH=1 starts "
                "the run under a new one"
            )
        return str(found["TrainingJobArn"])

    def find(self, name: str) -> dict[str, Any] | None:
        """Return a job as SageMaker describes it, or None where it knows none of this name."""
        with explained(f"asking for the training job {name}"):
            try:
                found: dict[str, Any] = self._sagemaker.describe_training_job(TrainingJobName=name)
            except aws.ClientError as error:
                if code_of(error) in _UNKNOWN:
                    return None
                raise
        return found

    def stop(self, name: str) -> str:
        """Stop a job that runs; return what was done.

        Raises:
            LaunchError: Stopping it now would lose its model.
        """
        found = self.find(name)
        assert found is not None, "asked for before"
        if found["TrainingJobStatus"] != "InProgress":
            return f"{name} is {_STATES[found['TrainingJobStatus']]} already"
        if found.get("SecondaryStatus") == "Uploading":
            raise LaunchError(
                f"{name} has finished training and is uploading its model, which stopping it could "
                "lose. It is over in a moment: make status"
            )
        with explained(f"stopping {name}"):
            self._sagemaker.stop_training_job(TrainingJobName=name)
        return f"{name} was told to stop; it has two minutes to save a checkpoint"


def read_status(found: Mapping[str, Any], seconds_before: float = 0.0) -> Status:
    """Return where a job stands.

    Args:
        found: As SageMaker describes it.
        seconds_before: Of machine time, that earlier attempts of the run took.
    """
    metrics = {m["MetricName"]: m["Value"] for m in found.get("FinalMetricDataList", ())}
    seconds = machine_seconds(found) + seconds_before
    state = _STATES[found["TrainingJobStatus"]]
    why = str(found.get("FailureReason", "")) if state == "training failed" else ""
    return Status(
        state=state,
        detail=why or _DETAILS.get(found.get("SecondaryStatus", ""), ""),
        step=int(metrics["step"]) if "step" in metrics else None,
        loss=metrics.get("loss"),
        seconds=seconds,
        cost_usd=_cost_usd(found, seconds),
    )


def machine_seconds(found: Mapping[str, Any]) -> float:
    """Return how long a job's machines have run, as it is billed."""
    if "BillableTimeInSeconds" in found:
        return float(found["BillableTimeInSeconds"])
    start, end = found.get("TrainingStartTime"), found.get("TrainingEndTime")
    if start is None:
        return 0.0
    return float((end.timestamp() if end else time.time()) - start.timestamp())


def _cost_usd(found: Mapping[str, Any], seconds: float) -> float | None:
    """Return the dollars at most: billed spot seconds are shortened, and the price is on-demand."""
    machines = found["ResourceConfig"]
    known = price(machines.get("SelectedInstanceType") or machines.get("InstanceType") or "")
    if known is None:
        return None
    count = machines.get("SelectedInstanceCount") or machines.get("InstanceCount") or 1
    return float(seconds / 3600 * count * known.on_demand_usd)


def _output(job: Mapping[str, Any]) -> str:
    return str(job["OutputDataConfig"]["S3OutputPath"])


def _explain_quota(request: Mapping[str, Any], error: aws.ClientError) -> str:
    machines = request["ResourceConfig"]
    kinds = [p["InstanceType"] for p in machines.get("InstancePreferences", ())]
    kind = machines.get("InstanceType") or kinds[0]
    usage = "spot training job" if request.get("EnableManagedSpotTraining") else "training job"
    said = str(error.response["Error"].get("Message", "")).strip()
    return (
        f"the account's quota does not allow this job ({said}). Ask for more of '{kind} for "
        f"{usage} usage' in Service Quotas, or choose another resources.instance"
    )
