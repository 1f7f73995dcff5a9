"""Tuning jobs of an account: create at most once, describe, and read their training jobs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore import exceptions as aws

from launch.aws.session import error_code, explain_aws_errors, says_not_found
from launch.errors import LaunchError


class TuningJobs:
    """Tuning jobs of an account.

    Args:
        sagemaker: boto3 client of `sagemaker`.
    """

    def __init__(self, sagemaker: Any):
        self._sagemaker = sagemaker

    def create(self, request: dict[str, Any]) -> None:
        """Create a job, unless an earlier call created it.

        The name was chosen and written to disk before the first call. If the reply to that call was
        lost, the job exists under this name, and the service rejects a second one.

        Raises:
            LaunchError: The job cannot be created.
        """  # noqa: DOC501 (errors of boto3 become a LaunchError)
        name = request["HyperParameterTuningJobName"]
        with explain_aws_errors(f"creating the tuning job {name}"):
            try:
                self._sagemaker.create_hyper_parameter_tuning_job(**request)
            except aws.ClientError as error:
                if error_code(error) != "ResourceInUse":
                    raise
            except (aws.HTTPClientError, aws.ConnectionError):
                # No reply: only a lookup of the name shows whether the job was created.
                if self.find(name) is None:
                    raise
        if self.find(name) is None:
            raise LaunchError(f"the tuning job {name} was not created")

    def find(self, name: str) -> dict[str, Any] | None:
        """Return the description of a job; None if no job has this name.

        Raises:
            LaunchError: SageMaker could not be asked.
        """
        with explain_aws_errors(f"describing the tuning job {name}", ignore=says_not_found):
            return dict(
                self._sagemaker.describe_hyper_parameter_tuning_job(
                    HyperParameterTuningJobName=name
                )
            )
        return None

    def training_jobs(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the summaries of a job's training jobs, the oldest first.

        Raises:
            LaunchError: SageMaker could not be asked.
        """
        with explain_aws_errors(f"listing the training jobs of {name}"):
            pages = self._sagemaker.get_paginator(
                "list_training_jobs_for_hyper_parameter_tuning_job"
            ).paginate(
                HyperParameterTuningJobName=name, SortBy="CreationTime", SortOrder="Ascending"
            )
            for page in pages:
                yield from page["TrainingJobSummaries"]
