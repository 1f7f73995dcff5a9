"""SageMaker processing jobs: create at most once, describe, stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore import exceptions as aws

from launch.aws.named_jobs import create_job, find_job
from launch.aws.session import explain_aws_errors
from launch.errors import LaunchError

RUNNING = ("InProgress", "Stopping")


class ProcessingJobs:
    """Processing jobs of an account.

    Args:
        sagemaker: boto3 client of `sagemaker`.
    """

    def __init__(self, sagemaker: Any):
        self._sagemaker = sagemaker

    def create(self, request: dict[str, Any]) -> str:
        """Create a job, or find the one that an earlier call created; return its ARN.

        The name is determined by what is prepared, so a second call finds the first one's job.

        Raises:
            LaunchError: The job cannot be created.
        """
        name = request["ProcessingJobName"]
        created = create_job(
            f"the processing job {name}",
            lambda: self._sagemaker.create_processing_job(**request),
            lambda: self._describe(name),
            lambda error: _explain_quota(request, error),
        )
        found = self.find(name) if created is None else created
        if found is None:
            raise LaunchError(f"the name {name} is taken, and SageMaker does not describe the job")
        return str(found["ProcessingJobArn"])

    def find(self, name: str) -> dict[str, Any] | None:
        """Return the description of a job, or None if no job has this name.

        Raises:
            LaunchError: SageMaker could not be asked, which says nothing about the job.
        """
        return find_job(f"the processing job {name}", lambda: self._describe(name))

    def stop(self, name: str) -> None:
        """Ask a job to stop.

        Raises:
            LaunchError: SageMaker refused.
        """
        with explain_aws_errors(f"stopping {name}"):
            self._sagemaker.stop_processing_job(ProcessingJobName=name)

    def _describe(self, name: str) -> Mapping[str, Any]:
        described: Mapping[str, Any] = self._sagemaker.describe_processing_job(
            ProcessingJobName=name
        )
        return described


def describe_end(job: Mapping[str, Any]) -> str:
    """Return how a job ended, as text: its message, or SageMaker's reason.

    Args:
        job: Description of the job by SageMaker.
    """
    message = str(job.get("ExitMessage") or "").strip()
    reason = str(job.get("FailureReason") or "").strip()
    return message or reason or "SageMaker gives no reason; the log has the details"


def _explain_quota(request: Mapping[str, Any], error: aws.ClientError) -> str:
    cluster = request["ProcessingResources"]["ClusterConfig"]
    instance, count = cluster["InstanceType"], cluster["InstanceCount"]
    message = str(error.response.get("Error", {}).get("Message", "")).strip()
    return (
        f"the account's quota does not allow {count} × {instance} for processing jobs: {message} "
        f"Ask for more under Service Quotas, Amazon SageMaker, '{instance} for processing job "
        f"usage', or name another with --instance or fewer with --nodes"
    )
