"""Target `jumpstart`: our training on the weights of a model of SageMaker's public hub."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from catalog.managed_training import JUMPSTART, providers
from launch.aws.session import AwsSession
from launch.environment import LaunchEnvironment, require_environment
from launch.managed.hub import HubModel, find_hub_model
from launch.prepared_job import PreparedJob
from launch.resources import stages_of
from launch.submission import Submission, TargetName
from launch.targets.base import Quote
from launch.targets.sagemaker import SageMakerTarget
from training.config import Job, Pipeline
from training.errors import JobError, Problem

_HUB_CONTENT = ":hub-content/"
_Run = TypeVar("_Run", bound=Job)


def from_environment(environment: LaunchEnvironment | None) -> JumpStartTarget:
    """Return the account of an environment.

    Raises:
        LaunchError: No environment is given.
    """
    return JumpStartTarget(AwsSession(require_environment(environment, "jumpstart")))


class JumpStartTarget(SageMakerTarget):
    """Target that trains a model of the hub in a training job with our container.

    Args:
        account: Session of the environment's account.
    """

    name: TargetName = "jumpstart"

    def resolve_models(self, job: Job | Pipeline, source: str) -> Job | Pipeline:
        """Return the job with models of the hub replaced by the addresses of their weights.

        Args:
            job: The job.
            source: Name of the job file, for messages.

        Raises:
            JobError: The hub has no such model, or it has no weights to train from.
        """
        if isinstance(job, Pipeline):
            stages = tuple(_with_weights(stage, self.account, source) for stage in job.stages)
            return job.model_copy(update={"stages": stages})
        return _with_weights(job, self.account, source)

    def quote(self, prepared: PreparedJob) -> Quote:
        """Check the job against the account, and return what would be created and charged."""
        licenses = [model.license for model in self._models(prepared).values() if model.is_gated]
        quote = super().quote(prepared)
        return dataclasses.replace(quote, agreement="; ".join(licenses))

    def request(self, submission: Submission, prepared: PreparedJob) -> dict[str, Any]:
        """Upload a run's inputs and return the request, which may read the hub's weights."""
        request = super().request(submission, prepared)
        models = self._models(prepared)
        for channel in request["InputDataConfig"]:
            source = channel["DataSource"].get("S3DataSource", {})
            if model := models.get(source.get("S3Uri", "")):
                source["HubAccessConfig"] = {"HubContentArn": model.arn}
                if model.is_gated:
                    # The user has accepted it: `submit` asks before it sends anything.
                    source["ModelAccessConfig"] = {"AcceptEula": True}
        return request

    def _models(self, prepared: PreparedJob) -> dict[str, HubModel]:
        """Return the models of the hub that a job reads, by the address of their weights."""
        found = {}
        for run in stages_of(prepared.job):
            arn = run.model.model_package_arn or ""
            if _HUB_CONTENT in arn:
                model = find_hub_model(self.account, arn.split("/")[-2])
                if model is not None:
                    found[run.model.source] = dataclasses.replace(model, arn=arn)
        return found


def hub_name(source: str) -> str | None:
    """Return the name in the hub of a model that a job names, None if none is known."""
    if source.startswith(JUMPSTART):
        return source.removeprefix(JUMPSTART)
    model = providers()["sagemaker-serverless"].find(source)
    return model.name if model is not None and not model.is_nova else None


def _with_weights(job: _Run, account: AwsSession, source: str) -> _Run:
    name = hub_name(job.model.source)
    if name is None:
        if job.model.source in ("previous", "scratch") or job.model.model_package_arn:
            return job
        fix = "Write jumpstart:NAME, such as jumpstart:huggingface-reasoning-qwen3-8b"
        problem = Problem("model.source", "is no model of SageMaker's hub", job.model.source, fix)
        raise JobError(source, [problem])
    model = find_hub_model(account, name)
    if model is None or model.weights is None:
        missing = "has no such model" if model is None else "has no weights of it to train from"
        problem = Problem("model.source", f"SageMaker's hub {missing}", job.model.source)
        raise JobError(source, [problem])
    return _at(job, model)


def _at(job: _Run, model: HubModel) -> _Run:
    address = str(model.weights)
    folder = address if address.endswith(("/", ".tar.gz")) else f"{address}/"
    update = {"source": folder, "revision": None, "model_package_arn": model.arn}
    return job.model_copy(update={"model": job.model.model_copy(update=update)})
