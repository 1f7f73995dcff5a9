"""Tuning jobs of an account: create at most once, describe, and read their training jobs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from launch.aws.session import accept_existing, explain_aws_errors, says_not_found
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

        Raises:
            LaunchError: The job cannot be created.
        """
        name = request["HyperParameterTuningJobName"]
        with (
            explain_aws_errors(f"creating the tuning job {name}"),
            accept_existing(lambda: self.find(name)),
        ):
            self._sagemaker.create_hyper_parameter_tuning_job(**request)
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
