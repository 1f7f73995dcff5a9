"""Adoption of a run that was submitted elsewhere: its record is rebuilt on this machine."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from launch.errors import LaunchError
from launch.remote_runs import RemoteRun
from launch.submission import Submission

if TYPE_CHECKING:
    from launch.targets.base import SharedTarget


def adopt(run: RemoteRun, target: SharedTarget, runs: Path) -> tuple[Submission, list[str]]:
    """Create the run folder of a remote run, with its record and its job file.

    The folder appears atomically, and an existing one is never changed.

    Args:
        run: The run, as its target lists it.
        target: Target that has it.
        runs: Folder of all run folders.

    Returns:
        The submission, and one line for each part that could not be read.

    Raises:
        LaunchError: This machine has the run already, or the folder cannot be written.
    """
    folder = runs / run.run
    if folder.exists() or folder.is_symlink():
        raise LaunchError(
            f"{run.run} is in {runs} already, and is not overwritten: temper status {run.run} "
            "shows it"
        )
    missing = []
    try:
        job = target.job_document(run)
    except LaunchError as error:
        job = ""
        missing.append(f"its job file could not be read: {error}")
    # Not in the folder of the job's runs: there, an unfinished one would be listed as a run.
    partial = runs / f".adopting-{run.run.replace('/', '-')}"
    submission = Submission(
        folder=partial,
        run=run.run,
        target=run.target,
        environment=run.environment,
        creator=run.creator,
        created=run.created,
        attempts=run.attempts,
        final_status=run.status if run.status.is_over else None,
        adopted=True,
    )
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        if job:
            (partial / "job.yaml").write_text(job, encoding="utf-8")
        submission.write()
        folder.parent.mkdir(exist_ok=True)
        partial.rename(folder)
    except OSError as error:
        raise LaunchError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if not run.creator:
        missing.append("its creator is unknown: the target does not record one")
    if run.status.seconds is None and run.target == "sagemaker":
        missing.append("its machine time is incomplete: an earlier attempt was not found")
    return dataclasses.replace(submission, folder=folder), missing
