"""Inspection of a run: its record, its target, its current status and its storage."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from launch.resolve_run import resolve_run
from launch.run_index import RunIndex
from launch.run_row import RunRow
from launch.submission import Attempt, Submission, read_submission
from launch.targets import make_target
from training.errors import TemperError

if TYPE_CHECKING:
    from launch.status import Status
    from launch.targets.base import Target

_TRAINED = ("not deployed", "deploying", "deployed")


def open_run(runs: Path, name: str) -> tuple[Submission, Target]:
    """Return the run that a user means by `name`, and its target."""
    return open_row(runs, resolve_run(runs, name))


def open_row(runs: Path, row: RunRow) -> tuple[Submission, Target]:
    """Return the run of a row of the index, and its target."""
    folder = runs / row.run
    # Runs that `python -m training` started here have no record of a submission.
    local = Submission(folder, row.run, "local", "", row.creator, row.created, (Attempt(row.run),))
    submission = read_submission(folder) or local
    return submission, make_target(submission.target, submission.environment)


def refresh_row(runs: Path, row: RunRow, *, check_deployment: bool = False) -> tuple[RunRow, str]:
    """Return a row with the current status from its target, and why that could not be read.

    Args:
        runs: Folder of all run folders.
        row: Row of the index.
        check_deployment: Query a trained run too, whose model may be deployed by now.
    """
    trained = row.target == "sagemaker" and row.status.state in _TRAINED
    needed = not row.status.is_over or (check_deployment and trained)
    if not needed or row.target in ("local", "unknown"):
        return row, ""
    try:
        submission, target = open_row(runs, row)
        if trained:
            status = _deployment_status(submission, target, row.status)
        else:
            status = target.status(submission)
    except TemperError as error:
        return row, str(error)
    if status.is_over:
        # Written to the run folder, so that a rebuilt index has it without querying the target.
        dataclasses.replace(submission, final_status=status).write()
    RunIndex(runs).update_status(row.run, status)
    return dataclasses.replace(row, status=status), ""


def _deployment_status(submission: Submission, target: Target, trained: Status) -> Status:
    from launch.aws.bedrock_status import deployment_status
    from launch.targets.sagemaker import SageMakerTarget

    assert isinstance(target, SageMakerTarget), "only models of SageMaker jobs are imported"
    return deployment_status(target.account.client("bedrock"), submission.latest.name, trained)


def storage_facts(submission: Submission, target: Target) -> dict[str, str]:
    """Return what a run stores on its target and the monthly cost, as labelled lines."""
    locations = target.remote_storage(submission)
    if not locations:
        return {}
    lines = [f"{name} ({size / 2**20:.1f} MiB)" for name, size in locations]
    facts = {"storage": "\n".join(lines)}
    in_s3 = [size for name, size in locations if name.startswith("s3://")]
    if in_s3:
        from catalog.storage import S3_SOURCE, S3_USD_PER_GIB_MONTH

        gib = sum(in_s3) / 2**30
        monthly = f"{gib * S3_USD_PER_GIB_MONTH:.2f} USD a month"
        facts["storage cost"] = f"{gib:.2f} GiB, about {monthly} ({S3_SOURCE})"
    return facts
