"""Preparation of a job for a provider: its records, its price, the question of its license."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from launch.aws.create_training_job import max_runtime_s
from launch.aws.platform_parameters import PlatformParameters
from launch.aws.s3 import S3Uri
from launch.job_inputs import InputArtifact
from launch.managed.jobs import ManagedJob
from launch.managed.requests import DataAddresses
from launch.targets.base import Quote
from planning.managed.run import ManagedRun
from planning.managed_quote import ManagedQuote
from training.errors import JobError, Problem


def quote_of(
    job: ManagedJob,
    platform: PlatformParameters,
    source: str,
    *,
    agreement: str = "",
    notes: tuple[str, ...] = (),
) -> Quote:
    """Return what a submission creates, reads and costs.

    Args:
        job: The job.
        platform: Parameters of the environment.
        source: Name of the job file, for messages.
        agreement: License to accept; empty if there is none.
        notes: Further lines.

    Raises:
        JobError: It can cost more than `resources.max_cost` allows.
    """
    environment, run = platform.environment, job.run
    quote = job.quote(environment.region, max_runtime_s(run.job.resources, platform))
    if problems := list(_over_budget(quote, run.job.resources.max_cost)):
        raise JobError(source, problems)
    rows = f"{len(job.data.train):,} rows"
    if job.data.validation:
        rows += f", {len(job.data.validation):,} held out"
    if job.data.skipped:
        rows += f", {job.data.skipped:,} left out"
    cost = quote.cost
    parameters = ", ".join(f"{name} {value}" for name, value in run.parameters.items())
    lines = [
        f"{run.provider.title} trains {run.model.name} ({run.method.technique}), "
        f"{environment.region} ({environment.name})",
        f"{rows}, as {run.format}; {quote.tokens.low:,.0f} to {quote.tokens.high:,.0f} tokens",
        f"sends {parameters}",
        f"chosen by the provider: {', '.join(run.left)}" if run.left else "",
        f"{cost}; {quote.price}",
        f"makes {run.provider.returns}",
        _scored_by(run),
        *notes,
    ]
    question = f"Start {run.job.name} for {cost}?"
    return Quote(tuple(line for line in lines if line), question, agreement)


def _scored_by(run: ManagedRun) -> str:
    """Return what scores the answers of reinforcement fine-tuning; empty for other methods."""
    if run.packed_rewards:
        kinds = ", ".join(str(section.model_dump()["kind"]) for section in run.packed_rewards)
        return (
            f"answers are scored by method.reward ({kinds}), in a Lambda function, billed by call"
        )
    if run.kind != "grpo":
        return ""
    return f"answers are scored by {run.job.resources.grader}, and not by method.reward"


def _over_budget(quote: ManagedQuote, limit: float | None) -> Iterator[Problem]:
    if limit is None:
        return
    if quote.cost_usd is None:
        yield Problem(
            "resources.max_cost",
            f"cannot be kept: {quote.price}",
            f"{limit:g} USD",
            "Leave it out to train at a price that is not known before",
        )
    elif quote.cost_usd.high > limit:
        fix = "Raise it, or train fewer epochs"
        if quote.max_hours is not None:
            minutes = int(limit / quote.cost_usd.high * quote.max_hours * 60)
            fix = f"Raise it, or set resources.max_runtime to {minutes} min or less"
        yield Problem(
            "resources.max_cost",
            f"the job can cost {quote.cost_usd.high:.2f} USD",
            f"{limit:g} USD",
            fix,
        )


def upload_data(job: ManagedJob, upload: Callable[[InputArtifact], S3Uri]) -> DataAddresses:
    """Upload the records of a job, and return their addresses.

    Args:
        job: The job.
        upload: Uploads an input, unless it exists already; returns the folder of its address.
    """
    with TemporaryDirectory(prefix="temper-managed-") as folder:
        addresses = {
            path.stem: str(upload(InputArtifact("data", path.stem, str(path), path)) / path.name)
            for path in job.data.write(Path(folder))
        }
    return DataAddresses(addresses["train"], addresses.get("validation"))
