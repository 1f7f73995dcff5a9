"""Tuning jobs of an account: create at most once, describe, and read their training jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from launch.aws.named_jobs import create_job, find_job
from launch.aws.session import explain_aws_errors
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
        create_job(
            f"the tuning job {name}",
            lambda: self._sagemaker.create_hyper_parameter_tuning_job(**request),
            lambda: self._describe(name),
        )
        if self.find(name) is None:
            raise LaunchError(f"the tuning job {name} was not created")

    def find(self, name: str) -> dict[str, Any] | None:
        """Return the description of a job; None if no job has this name.

        Raises:
            LaunchError: SageMaker could not be asked.
        """
        return find_job(f"the tuning job {name}", lambda: self._describe(name))

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

    def _describe(self, name: str) -> Mapping[str, Any]:
        described: Mapping[str, Any] = self._sagemaker.describe_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=name
        )
        return described
