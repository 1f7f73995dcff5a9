"""Commands that prepare data: prepare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.errors import InvalidOptionError
from temper.cli.extras import require
from temper.cli.options import (
    RUNS,
    EnvironmentOption,
    JobArgument,
    RunsOption,
    SetOption,
    overrides,
)
from training.errors import JobError, Problem

if TYPE_CHECKING:
    from launch.job_inputs import InputArtifact
    from preparation.config.job import PreparationJob
    from preparation.s3_objects import S3Listing


_TARGETS = ("local", "sagemaker", "slurm", "ray")


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("prepare")(_prepare)


def _prepare(
    job: JobArgument,
    set_: SetOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over: resume nothing.")] = False,
    target: Annotated[str, typer.Option(help="local, sagemaker, slurm or ray.")] = "local",
    env: EnvironmentOption = "dev",
    nodes: Annotated[int, typer.Option(min=1, max=100, help="Machines of a target.")] = 1,
    instance: Annotated[
        str | None, typer.Option(help="Instance type of sagemaker; chosen if omitted.")
    ] = None,
    runs: RunsOption = RUNS,
) -> int:
    """Prepare clean training data from raw files.

    The same command resumes an interrupted preparation, or shows the state of the job that it
    started on a target.
    """
    require("prepare")
    _check_options(str(job), target, nodes=nodes, instance=instance, fresh=fresh)
    if target == "sagemaker":
        return _submit(job, overrides(set_), env, nodes, instance)
    if target == "slurm":
        return _submit_to_slurm(job, overrides(set_), nodes, runs)
    from preparation.command import prepare

    return prepare(job, overrides(set_), fresh=fresh, on_ray=target == "ray")


def _check_options(job: str, target: str, *, nodes: int, instance: str | None, fresh: bool) -> None:
    """Check that the target is known, and that options given have an effect on it.

    Args:
        job: The job file, for messages.
        target: The target.
        nodes: Number of machines.
        instance: Instance type.
        fresh: Start over.

    Raises:
        JobError: With every problem found.
    """
    problems = []
    if target not in _TARGETS:
        fix = f"Known are {', '.join(_TARGETS)}"
        problems.append(Problem("--target", "unknown target", target, fix))
    elif target == "local" and nodes > 1:
        fix = "Name a target that has several machines: sagemaker or slurm"
        problems.append(Problem("--nodes", "this is one machine", str(nodes), fix))
    elif target == "ray" and nodes > 1:
        fix = "Leave it out; RAY_ADDRESS names the cluster"
        problems.append(Problem("--nodes", "a Ray cluster has its machines", str(nodes), fix))
    if target in ("local", "slurm", "ray") and instance is not None:
        message = f"{target} has no instance types"
        problems.append(Problem("--instance", message, instance, "Leave it out"))
    if target != "local" and fresh:
        fix = "Delete the result there instead: a finished one is not prepared again"
        problems.append(Problem("--fresh", f"it has no effect on {target}", fix=fix))
    if problems:
        raise JobError(job, problems)


def _submit(job_file: Path, pairs: str, env: str, nodes: int, instance: str | None) -> int:
    """Submit a preparation as a processing job."""
    require("launch")
    from launch.aws.session import AwsSession
    from launch.environment import read_environment
    from launch.processing.submit import ProcessingSubmission, ProcessingTarget
    from preparation.config.load import load_preparation
    from preparation.estimate import estimate_on_target
    from preparation.relocation import local_files, relocated

    job: PreparationJob = load_preparation(job_file, pairs)
    _check_written_here(job, str(job_file))
    environment = read_environment(env)
    files = local_files(job)
    estimated, listings = estimate_on_target(job)
    inputs = _inputs(files, listings)

    def job_text(paths: list[str], output: str) -> str:
        return relocated(job, dict(zip(files, paths, strict=True)), output)

    submission = ProcessingSubmission(
        job.name, str(job_file), inputs, job_text, estimated, nodes, instance
    )
    ProcessingTarget(AwsSession(environment)).submit(submission, typer.echo)
    return 0


def _inputs(
    files: Mapping[str, tuple[str, Path]], listings: Mapping[str, S3Listing]
) -> list[InputArtifact]:
    """Return the files of a job as inputs: uploaded, or read where they are in S3.

    Args:
        files: Key and path of each file, by its value in the job.
        listings: Objects of the sources in S3.
    """
    from launch.job_inputs import InputArtifact

    inputs = []
    for index, (value, (key, path)) in enumerate(files.items()):
        name = f"source-{index}"
        if (listing := listings.get(value)) is None:
            inputs.append(InputArtifact(key, name, value, path))
            continue
        address = value.rstrip("/") if listing.is_object else f"{value.rstrip('/')}/"
        inputs.append(InputArtifact(key, name, address, None, listing.version))
    return inputs


def _check_written_here(job: PreparationJob, source: str) -> None:
    """Raise if a teacher would write rows: that is done on one machine, before.

    Raises:
        JobError: The job has a section `synthesize`.
    """
    if job.synthesize is not None:
        fix = "Write the rows first with --target local, and name them in prepare.sources"
        message = "a processing job calls no teacher"
        raise JobError(source, [Problem("synthesize", message, fix=fix)])


def _submit_to_slurm(job: Path, overrides_: str, nodes: int, runs: Path) -> int:
    """Queue a preparation in Slurm.

    Args:
        job: The job file.
        overrides_: `key=value` pairs.
        nodes: Number of nodes.
        runs: The folder of run folders.

    Raises:
        InvalidOptionError: The options exclude each other.
    """
    from launch.submit_preparation import PreparationRequest, submit_preparation
    from launch.targets.slurm import from_environment
    from preparation.config.load import load_preparation
    from preparation.relocation import job_yaml
    from training.console import say

    loaded = load_preparation(job, overrides_)
    if loaded.synthesize is not None and nodes > 1:
        raise InvalidOptionError(
            f"--nodes {nodes}: a synthesis runs on one machine. Run it first, then "
            "name its data/rows.jsonl in prepare.sources"
        )
    request = PreparationRequest(loaded.name, job_yaml(loaded), nodes, runs)
    submission, queued = submit_preparation(request, from_environment(None))
    run = submission.run
    say(f"run {run}, job {submission.latest.name}{'' if queued else ', queued already'}")
    say(f"temper logs {run} follows it; temper status shows it; temper stop {run} stops it")
    return 0
