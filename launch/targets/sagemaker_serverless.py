"""Target `sagemaker-serverless`: one training job with a `ServerlessJobConfig` for each attempt."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from launch.aws.session import AwsSession
from launch.environment import LaunchEnvironment, require_environment
from launch.managed.graders.evaluator import delete_evaluator, deploy_evaluator
from launch.managed.graders.package import Contract
from launch.managed.jobs import HubJob
from launch.managed.managed_model import write_managed_model
from launch.managed.recipe_model import fetch_recipe_model
from launch.managed.requests import (
    PACKAGE_GROUP,
    RecipeChoice,
    serverless_request,
)
from launch.prepared_job import PreparedJob
from launch.status import Status
from launch.submission import Submission, TargetName
from launch.targets.base import Quote
from launch.targets.hub_job import convert_hub_job
from launch.targets.managed_job import quote_of
from launch.targets.managed_target import ManagedTarget
from launch.targets.sagemaker import SageMakerTarget
from planning.managed.run import ManagedRun
from training.errors import JobError, Problem


def from_environment(environment: LaunchEnvironment | None) -> ServerlessTarget:
    """Return the account of an environment.

    Raises:
        LaunchError: No environment is given.
    """
    return ServerlessTarget(AwsSession(require_environment(environment, "sagemaker-serverless")))


class ServerlessTarget(ManagedTarget[HubJob], SageMakerTarget):
    """Target that customizes models of SageMaker's hub without machines to choose.

    Args:
        account: Session of the environment's account.
    """

    name: TargetName = "sagemaker-serverless"
    service = "serverless customization"

    def quote(self, prepared: PreparedJob) -> Quote:
        """Check the job and its rows against the recipe, and return what would be charged.

        Raises:
            JobError: SageMaker cannot run it as it is written; lists every problem.
        """
        self.account.caller()
        job = self.managed_job(prepared)
        problems = self._problems(job.run)
        if problems:
            raise JobError(prepared.source, problems)
        return quote_of(
            job,
            self.platform,
            prepared.source,
            agreement=job.model.license if job.model.is_gated else "",
            notes=(f"in the model package group {self.platform[PACKAGE_GROUP]}", job.split_note),
        )

    def _problems(self, run: ManagedRun) -> list[Problem]:
        problems = list(self.grader_problems(run))
        if self.platform.get(PACKAGE_GROUP) is None:
            problems.append(
                Problem(
                    "--env",
                    "has no model package group, into which SageMaker puts the model",
                    self.account.environment.name,
                    "Deploy the environment again",
                )
            )
        return problems

    def _convert(self, prepared: PreparedJob) -> HubJob:
        return convert_hub_job(self.account, prepared, self.name)

    def request(self, submission: Submission, prepared: PreparedJob) -> dict[str, Any]:
        """Upload a run's records and return the request of its latest attempt."""
        job = self.managed_job(prepared)
        return serverless_request(
            submission,
            job.run,
            self.upload_data(job),
            self.platform,
            RecipeChoice(
                job.model.arn,
                job.specification,
                # The user has accepted it: `submit` asks before it sends anything.
                job.model.is_gated,
                job.sequence_length,
            ),
            self._evaluator(submission, job.run),
        )

    def _evaluator(self, submission: Submission, run: ManagedRun) -> str | None:
        """Return the ARN of the evaluator of a job; create it from the job's rewards."""
        contract: Contract = "list" if run.model.is_nova else "http"
        function = self.deploy_grader(submission, run, contract)
        if function is None:
            return run.job.resources.grader
        return deploy_evaluator(self.account, submission.run, function, self.platform)

    def grader_deletions(self, submission: Submission) -> tuple[Callable[[], None], ...]:
        """Return the deletions of a run's evaluator and of its grader."""
        evaluator = partial(delete_evaluator, self.account, submission.run, self.platform)
        return (evaluator, *super().grader_deletions(submission))

    def stop(self, submission: Submission) -> str:
        """Stop the job, or prevent its submission if the upload is still running."""
        name = submission.latest.name
        if self.jobs.find(name) is None:
            return self.cancel(submission)
        self.jobs.stop(name)
        return f"{name} was told to stop; SageMaker bills the tokens that it trained"

    def fetch(self, submission: Submission, *, archive: bool, checkpoints: bool) -> list[Path]:
        """Download the weights of an open model; of Amazon Nova, write which package holds it.

        Args:
            submission: The run.
            archive: Has no effect: the files of the model are fetched.
            checkpoints: Has no effect: a provider keeps none.
        """
        job = self.jobs.find(submission.latest.name) or {}
        if job.get("TrainingJobStatus") != "Completed":
            return []
        folder = submission.folder / "model"
        if fetch_recipe_model(self.store, job, folder):
            return [folder]
        return [
            write_managed_model(
                submission.folder,
                {
                    "provider": self.name,
                    "model_package": job.get("OutputModelPackageArn", ""),
                    "base": job["ServerlessJobConfig"]["BaseModelArn"],
                    "job": job["TrainingJobArn"],
                    "technique": job["ServerlessJobConfig"].get("CustomizationTechnique", ""),
                    "region": self.account.environment.region,
                },
            )
        ]

    def status_of(self, job: Mapping[str, Any], submission: Submission) -> Status:
        """Return the status of a run by its latest job, with the tokens that are billed.

        Args:
            job: Description of the job by SageMaker.
            submission: The run.
        """
        status = super().status_of(job, submission)
        tokens = job.get("BillableTokenCount")
        if tokens is None or status.detail:
            return status
        return dataclasses.replace(status, detail=f"{tokens:,} tokens are billed")
