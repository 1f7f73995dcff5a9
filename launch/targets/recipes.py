"""Target `recipes`: recipes of SageMaker HyperPod as training jobs, on instances of the job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launch.aws.cost_limits import cost_limit_problems
from launch.aws.s3 import S3Uri
from launch.aws.session import AwsSession
from launch.environment import LaunchEnvironment, require_environment
from launch.managed.hub import read_recipe_file, supported_instances
from launch.managed.jobs import HubJob
from launch.managed.recipe_model import fetch_recipe_model
from launch.managed.recipes import (
    RECIPE_FILE,
    RecipeInputs,
    base_weights,
    needs_weights,
    recipe_request,
    recipe_values,
    render_recipe,
)
from launch.prepared_job import PreparedJob
from launch.submission import Submission, TargetName
from launch.targets.base import Quote
from launch.targets.hub_job import convert_hub_job
from launch.targets.managed_job import quote_of
from launch.targets.managed_target import ManagedTarget
from launch.targets.sagemaker import SageMakerTarget
from planning.managed.run import ManagedRun
from training.errors import JobError, Problem

_IMAGE = "SmtjImageUri"
_GIB = 1 << 30
_COPIES = 4
"""Copies of the weights on the volume: those read, a checkpoint, the adapter, the merged ones."""
_SPARE_GIB = 50


def from_environment(environment: LaunchEnvironment | None) -> RecipesTarget:
    """Return the account of an environment.

    Raises:
        LaunchError: No environment is given.
    """
    return RecipesTarget(AwsSession(require_environment(environment, "recipes")))


class RecipesTarget(ManagedTarget[HubJob], SageMakerTarget):
    """Target that runs AWS's recipes of the models of SageMaker's hub in training jobs.

    Args:
        account: Session of the environment's account.
    """

    name: TargetName = "recipes"
    service = "a recipe"

    def quote(self, prepared: PreparedJob) -> Quote:
        """Check the job, its rows and its instances, and return what would be charged.

        Raises:
            JobError: The recipe cannot run it as it is written; lists every problem.
        """
        self.account.caller()
        job = self.managed_job(prepared)
        instances = supported_instances(self.account, job.model, job.recipe)
        problems = [*self.grader_problems(job.run), *self._problems(job, instances)]
        if problems:
            raise JobError(prepared.source, problems)
        resources = job.run.job.resources
        return quote_of(
            job,
            self.platform,
            prepared.source,
            agreement=job.model.license if job.model.is_gated else "",
            notes=(
                f"on {resources.count} x {resources.instance}, in {job.recipe[_IMAGE]}",
                job.split_note,
            ),
        )

    def _problems(self, job: HubJob, instances: list[str]) -> list[Problem]:
        problems = []
        resources = job.run.job.resources
        known = f"; the recipe runs on {', '.join(instances)}" if instances else ""
        if resources.instance is None:
            example = instances[0] if instances else "ml.p5.48xlarge"
            problems.append(
                Problem("resources.instance", f"is required{known}", fix=f"Such as {example}")
            )
        elif instances and resources.instance not in instances:
            problems.append(
                Problem(
                    "resources.instance",
                    f"the recipe for {job.model.name} does not run on it",
                    resources.instance,
                    f"Choose from {', '.join(instances)}",
                )
            )
        problems += cost_limit_problems(resources, self.platform)
        if not job.recipe.get(_IMAGE):
            problems.append(
                Problem(
                    "model.source",
                    f"SageMaker's hub names no image for the recipe of {job.model.name}",
                    job.run.job.model.source,
                    "Use --target sagemaker-serverless",
                )
            )
        if needs_weights(job) and job.model.weights is None:
            problems.append(
                Problem(
                    "model.source",
                    f"SageMaker's hub has no weights of {job.model.name} for its recipe",
                    job.run.job.model.source,
                    "Use --target sagemaker-serverless",
                )
            )
        return problems

    def _convert(self, prepared: PreparedJob) -> HubJob:
        return convert_hub_job(self.account, prepared, self.name)

    def request(self, submission: Submission, prepared: PreparedJob) -> dict[str, Any]:
        """Upload a run's records and its recipe, and return the request of its latest attempt."""
        job = self.managed_job(prepared)
        data = self.upload_data(job)
        grader = self._grader(submission, job.run)
        template = read_recipe_file(self.account, job.recipe["SmtjRecipeTemplateS3Uri"])
        values = recipe_values(job, submission, self.platform, grader)
        folder = S3Uri(self.platform["buckets/runs"], f"runs/{submission.run}/recipe")
        recipe = folder / RECIPE_FILE
        self.store.put_text(render_recipe(template, values), recipe)
        weights = base_weights(job)
        volume = job.run.job.resources.volume_gib or self._volume_gib(weights)
        inputs = RecipeInputs(data, str(recipe), weights, volume, grader)
        return recipe_request(submission, job, inputs, self.platform)

    def _grader(self, submission: Submission, run: ManagedRun) -> str | None:
        return self.deploy_grader(submission, run, "http") or run.job.resources.grader

    def _volume_gib(self, weights: str | None) -> float:
        """Return the size of a volume that holds the weights of a model several times."""
        size = self.store.size_bytes(S3Uri.parse(weights)) / _GIB if weights else 0.0
        return _COPIES * size + _SPARE_GIB

    def fetch(self, submission: Submission, *, archive: bool, checkpoints: bool) -> list[Path]:
        """Download the weights that the recipe wrote.

        Args:
            submission: The run.
            archive: Has no effect: the files of the model are fetched.
            checkpoints: Has no effect: a recipe keeps none.
        """
        job = self.jobs.find(submission.latest.name) or {}
        folder = submission.folder / "model"
        is_complete = job.get("TrainingJobStatus") == "Completed"
        return [folder] if is_complete and fetch_recipe_model(self.store, job, folder) else []

    def stop(self, submission: Submission) -> str:
        """Stop the job, or prevent its submission if the upload is still running."""
        name = submission.latest.name
        if self.jobs.find(name) is None:
            return self.cancel(submission)
        self.jobs.stop(name)
        return f"{name} was told to stop; its instances are billed until then, and no weights stay"
