"""Looking at a run again: in its folder, and where it runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from launch.errors import LaunchError
from launch.resolve_run import find_run
from launch.run_index import RunIndex, RunRow
from launch.submission_record import Attempt, SubmissionRecord, read_submission_record
from launch.targets import target_of
from launch.targets.base import Submission
from training.errors import TemperError

if TYPE_CHECKING:
    from launch.status import Status
    from launch.targets.base import Target

_TRAINED = ("not deployed", "deploying", "deployed")


def open_run(runs: Path, name: str) -> tuple[Submission, Target]:
    """Return a run by the name a person gave it, and the target it is on."""
    return open_row(runs, find_run(runs, name))


def open_row(runs: Path, row: RunRow) -> tuple[Submission, Target]:
    """Return the run of a row and the target it is on."""
    folder = runs / row.run
    here = SubmissionRecord(row.run, "local", "", row.creator, row.created, (Attempt(row.run),))
    record = read_submission_record(folder) or here
    return Submission(folder, record), target_of(record.target, record.environment)


def refresh_row(runs: Path, row: RunRow, *, closely: bool = False) -> tuple[RunRow, str]:
    """Return a row as its target sees it now, and what kept it from being asked.

    Args:
        runs: Where run folders are.
        row: As last seen.
        closely: Whether a run that is over is asked about too: its model may serve by now.
    """
    trained = row.target == "sagemaker" and row.status.state in _TRAINED
    asked = not row.status.is_over or (closely and trained)
    if not asked or row.target in ("local", "unknown"):
        return row, ""
    try:
        sent, place = open_row(runs, row)
        now = _serving(sent, place, row.status) if trained else place.status(sent)
    except TemperError as error:
        return row, str(error)
    if now.is_over:
        # Kept in the folder, from which the index can be made anew.
        dataclasses.replace(sent.record, seen=now).write(sent.folder)
    RunIndex(runs).saw(row.run, now)
    return dataclasses.replace(row, status=now), ""


def _serving(sent: Submission, place: Target, trained: Status) -> Status:
    from launch.aws.bedrock_status import with_serving
    from launch.targets.sagemaker import SageMakerTarget

    assert isinstance(place, SageMakerTarget), "no other's models are imported"
    return with_serving(place.account.client("bedrock"), sent.record.latest.name, trained)


def storage(sent: Submission, place: Target) -> dict[str, str]:
    """Return what a run keeps elsewhere, and what that costs."""
    kept = place.belongings(sent)
    if not kept:
        return {}
    lines = [f"{name} ({size / 2**20:.1f} MiB)" for name, size in kept]
    found = {"storage": "\n".join(lines)}
    gib = sum(size for name, size in kept if name.startswith("s3://")) / 2**30
    if any(name.startswith("s3://") for name, _ in kept):
        from catalog.storage import S3_SOURCE, S3_USD_PER_GIB_MONTH

        monthly = f"{gib * S3_USD_PER_GIB_MONTH:.2f} USD a month"
        found["storage cost"] = f"{gib:.2f} GiB, about {monthly} ({S3_SOURCE})"
    return found


def refuse_unless_known(row: RunRow) -> None:
    """Raise for a run whose record cannot be read.

    Raises:
        LaunchError: With what is wrong with it.
    """
    if row.target == "unknown":
        raise LaunchError(row.status.detail)
