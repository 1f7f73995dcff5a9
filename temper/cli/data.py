"""Commands that prepare data: prepare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from temper.cli.extras import require
from temper.cli.options import EnvironmentOption, JobArgument, SetOption, overrides
from training.errors import JobError, Problem

if TYPE_CHECKING:
    from preparation.config.job import PreparationJob


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("prepare")(_prepare)


def _prepare(
    job: JobArgument,
    set_: SetOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over: resume nothing.")] = False,
    target: Annotated[str, typer.Option(help="local or sagemaker.")] = "local",
    env: EnvironmentOption = "dev",
    nodes: Annotated[int, typer.Option(min=1, max=100, help="Machines of a target.")] = 1,
    instance: Annotated[
        str | None, typer.Option(help="Instance type of sagemaker; chosen if omitted.")
    ] = None,
) -> int:
    """Prepare clean training data from raw files.

    The same command resumes an interrupted preparation, or shows the state of the job that it
    started on a target.

    Raises:
        JobError: The target is unknown.
    """
    require("prepare")
    if target == "sagemaker":
        return _submit(job, overrides(set_), env, nodes, instance)
    if target != "local":
        problem = Problem("--target", "unknown target", target, "Known are local, sagemaker")
        raise JobError(str(job), [problem])
    from preparation.command import prepare

    return prepare(job, overrides(set_), fresh=fresh)


def _submit(job_file: Path, pairs: str, env: str, nodes: int, instance: str | None) -> int:
    """Submit a preparation as a processing job."""
    require("launch")
    from launch.aws.session import AwsSession
    from launch.environment import read_environment
    from launch.job_inputs import InputArtifact
    from launch.processing.submit import ProcessingSubmission, ProcessingTarget
    from preparation.config.load import load_preparation
    from preparation.estimate import estimate
    from preparation.plan import plan
    from preparation.relocation import local_files, relocated

    job: PreparationJob = load_preparation(job_file, pairs)
    _check_written_here(job, str(job_file))
    environment = read_environment(env)
    files = {path: key for key, path in local_files(job)}
    inputs = [
        InputArtifact(key, f"source-{index}", str(path), path)
        for index, (path, key) in enumerate(files.items())
    ]

    def job_text(paths: list[str], output: str) -> str:
        return relocated(job, dict(zip(files, paths, strict=True)), output)

    submission = ProcessingSubmission(
        job.name, str(job_file), inputs, job_text, estimate(plan(job)), nodes, instance
    )
    ProcessingTarget(AwsSession(environment)).submit(submission, typer.echo)
    return 0


def _check_written_here(job: PreparationJob, source: str) -> None:
    """Raise if a teacher would write rows: that is done on one machine, before.

    Raises:
        JobError: The job has a section `synthesize`.
    """
    if job.synthesize is not None:
        fix = "Write the rows first with --target local, and name them in prepare.sources"
        message = "a processing job calls no teacher"
        raise JobError(source, [Problem("synthesize", message, fix=fix)])
