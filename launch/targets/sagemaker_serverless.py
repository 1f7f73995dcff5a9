"""Target `sagemaker-serverless`: one training job with a `ServerlessJobConfig` for each attempt."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.aws.model_output import download_folder
from launch.aws.s3 import S3Uri
from launch.aws.session import AwsSession
from launch.environment import LaunchEnvironment, require_environment
from launch.errors import LaunchError
from launch.managed.data_files import convert_data
from launch.managed.graders.evaluator import delete_evaluator, deploy_evaluator
from launch.managed.graders.package import Contract
from launch.managed.hub import (
    HubModel,
    find_hub_model,
    read_specification,
    recipe_of,
    sequence_lengths,
)
from launch.managed.managed_model import write_managed_model
from launch.managed.requests import (
    PACKAGE_GROUP,
    RecipeChoice,
    serverless_request,
)
from launch.prepared_job import PreparedJob
from launch.status import Status
from launch.submission import Submission, TargetName
from launch.targets.base import Quote
from launch.targets.managed_job import ManagedJob, quote_of
from launch.targets.managed_target import ManagedTarget
from launch.targets.sagemaker import SageMakerTarget
from planning.managed.run import ManagedRun, read_managed_run
from training.errors import JobError, Problem
from training.export.checksums import write_checksums

_MERGED, _ADAPTER = "checkpoints/hf_merged/", "checkpoints/hf/"
_SEQUENCE = 1024


def from_environment(environment: LaunchEnvironment | None) -> ServerlessTarget:
    """Return the account of an environment.

    Raises:
        LaunchError: No environment is given.
    """
    return ServerlessTarget(AwsSession(require_environment(environment, "sagemaker-serverless")))


@dataclass(frozen=True)
class _ServerlessJob(ManagedJob):
    """Job with what the hub says about its model."""

    model: HubModel
    specification: Mapping[str, Mapping[str, Any]]
    sequence_length: str | None


class ServerlessTarget(ManagedTarget[_ServerlessJob], SageMakerTarget):
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
            self.account.environment,
            prepared.source,
            agreement=job.model.license if job.model.is_gated else "",
            notes=(f"in the model package group {self.platform[PACKAGE_GROUP]}",),
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

    def _convert(self, prepared: PreparedJob) -> _ServerlessJob:
        """Return the job with its recipe and its records.

        Raises:
            JobError: The hub has no such model or recipe, or the job does not fit it.
        """
        region = self.account.environment.region
        # First without the recipe, so that problems of the job file are reported before the hub
        # is asked.
        rough = read_managed_run(prepared.job, self.name, source=prepared.source, region=region)
        model = find_hub_model(self.account, rough.model.name)
        if model is None:
            problem = Problem(
                "model.source",
                f"SageMaker's hub has no {rough.model.name} in {region}",
                rough.job.model.source,
            )
            raise JobError(prepared.source, [problem])
        lora, technique = rough.job.adapter is not None, rough.method.technique
        length = _sequence_length(rough, model, prepared.source)
        recipe = recipe_of(model, technique, lora=lora, sequence_length=length)
        if recipe is None:
            problem = Problem(
                "method.kind",
                f"SageMaker's hub has no recipe for {technique} of {model.name} "
                f"{'with LoRA' if lora else 'of all weights'}",
                rough.kind,
            )
            raise JobError(prepared.source, [problem])
        specification = read_specification(self.account, recipe)
        run = read_managed_run(
            prepared.job,
            self.name,
            source=prepared.source,
            region=region,
            specification=specification,
        )
        data = convert_data(run, prepared.source)
        return _ServerlessJob(run, data, model, specification, length)

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

    def delete(self, submission: Submission) -> list[str]:
        """Delete a run's objects, its grader and its evaluator; return those that stay, and why."""
        remaining = []
        try:
            delete_evaluator(self.account, submission.run, self.platform)
        except LaunchError as error:
            remaining.append(str(error))
        return [*remaining, *super().delete(submission)]

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
        uri = str(job.get("ModelArtifacts", {}).get("S3ModelArtifacts") or "").rstrip("/")
        for part in (_MERGED, _ADAPTER):
            if uri and download_folder(self.store, S3Uri.parse(f"{uri}/{part}"), folder):
                write_checksums(folder)
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


def _sequence_length(run: ManagedRun, model: HubModel, source: str) -> str | None:
    """Return the sequence length that chooses a recipe; None if the recipes have none.

    Raises:
        JobError: `data.max_length` is none of those for which the model has recipes.
    """
    lora = run.job.adapter is not None
    lengths = sequence_lengths(model, run.method.technique, lora=lora)
    if not lengths:
        return None
    wanted = run.job.data.max_length
    fitting = [one for one in lengths if int(one.removesuffix("K")) * _SEQUENCE >= wanted]
    if fitting:
        return fitting[0]
    longest = int(lengths[-1].removesuffix("K")) * _SEQUENCE
    problem = Problem(
        "data.max_length",
        f"{model.name} has recipes for {', '.join(lengths)} tokens",
        str(wanted),
        f"Set it to {longest} or less",
    )
    raise JobError(source, [problem])
