"""Preparation of a job on a model of SageMaker's hub: its recipe, its values and its records."""

from __future__ import annotations

from launch.aws.session import AwsSession
from launch.managed.data_files import convert_data
from launch.managed.hub import (
    HubModel,
    find_hub_model,
    read_specification,
    recipe_of,
    sequence_lengths,
)
from launch.managed.jobs import HubJob
from launch.prepared_job import PreparedJob
from planning.managed.run import ManagedRun, read_managed_run
from training.errors import JobError, Problem

_SEQUENCE = 1024


def convert_hub_job(account: AwsSession, prepared: PreparedJob, provider: str) -> HubJob:
    """Return a job with its recipe and its records.

    Args:
        account: Session of the environment's account.
        prepared: The job.
        provider: Name of the provider.

    Raises:
        JobError: The hub has no such model or recipe, or the job does not fit it.
    """
    region = account.environment.region
    # First without the recipe, so that problems of the job file are reported before the hub is
    # asked.
    rough = read_managed_run(prepared.job, provider, source=prepared.source, region=region)
    model = find_hub_model(account, rough.model.name)
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
    specification = read_specification(account, recipe)
    run = read_managed_run(
        prepared.job,
        provider,
        source=prepared.source,
        region=region,
        specification=specification,
    )
    data = convert_data(run, prepared.source)
    return HubJob(run, data, model, recipe, specification, length)


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
