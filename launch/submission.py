"""A submitted run and its record on disk, `launch.json` in the run folder.

The run folder is created, and the name of the job on the target is chosen and written down, before
anything is sent. Whatever fails in between, rerunning the same command looks the name up on the
target and therefore never starts a second job.
"""

from __future__ import annotations

import dataclasses
import getpass
import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from launch.errors import LaunchError
from launch.status import Status
from training.run_folder import write_whole

FILE = "launch.json"
TargetName = Literal[
    "local",
    "sagemaker",
    "hyperpod",
    "slurm",
    "eks",
    "bedrock-customization",
    "sagemaker-serverless",
    "jumpstart",
    "recipes",
]
MANAGED: frozenset[TargetName] = frozenset(
    ("bedrock-customization", "sagemaker-serverless", "recipes")
)
"""Targets that run no program of ours: AWS trains, by its own."""
_VERSION = 1
_MAX_NAME_LENGTH = 63


@dataclass(frozen=True)
class Attempt:
    """One job on a target; every resume of a run adds another.

    Attributes:
        name: Unique name that we chose, legal on the target.
        handle: The target's own identifier (an ARN, a job number); empty until it was accepted.
        requested_at: Time of the request, ISO 8601 in UTC.
    """

    name: str
    handle: str = ""
    requested_at: str = ""


@dataclass(frozen=True)
class Submission:
    """A run that was, or is about to be, submitted to a target.

    Attributes:
        folder: Run folder on this machine.
        run: `<name>/<run id>`.
        target: Target that executes the run.
        environment: Environment of the platform; empty for targets that need none.
        creator: Login name of the person who submitted it.
        created: Time of creation, ISO 8601 in UTC.
        attempts: Jobs on the target, oldest first.
        cancelled: The run was stopped before the target accepted it.
        final_status: Last status once the run is over, so that the target is not queried again.
        adopted: The run was submitted elsewhere; its inputs may be missing on this machine.
    """

    folder: Path
    run: str
    target: TargetName
    environment: str
    creator: str
    created: str
    attempts: tuple[Attempt, ...] = ()
    cancelled: bool = False
    final_status: Status | None = None
    adopted: bool = False

    @property
    def latest(self) -> Attempt:
        """The newest attempt, which decides the status of the run."""
        return self.attempts[-1]

    def write(self) -> None:
        """Write the record into the run folder, atomically."""
        write_whole(self.folder / FILE, self.text())

    def text(self) -> str:
        """Return the content of the record."""
        return json.dumps(_to_document(self), indent=1) + "\n"

    def with_handle(self, handle: str) -> Submission:
        """Return a copy whose latest attempt has the target's identifier."""
        accepted = dataclasses.replace(self.latest, handle=handle)
        return dataclasses.replace(self, attempts=(*self.attempts[:-1], accepted))

    def with_new_attempt(self, job_prefix: str = "") -> Submission:
        """Return a copy with one more attempt, under a new job name."""
        # Earlier attempts of an adopted run may be unknown, and their names are taken.
        numbers = [attempt_number(attempt.name, self.run) for attempt in self.attempts]
        name = attempt_name(self.run, max(len(numbers), *numbers) + 1, job_prefix)
        attempts = (*self.attempts, Attempt(name, requested_at=now()))
        return dataclasses.replace(self, attempts=attempts, final_status=None, cancelled=False)


def read_submission(folder: Path) -> Submission | None:
    """Return the submission recorded in a run folder, or None if it has no record.

    Raises:
        LaunchError: The record exists and cannot be read.
    """
    path = folder / FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LaunchError(
            f"{path} cannot be read: {error}. Delete the folder to remove the run"
        ) from None
    return parse_submission(folder, document, str(path))


def parse_submission(folder: Path, document: Any, source: str) -> Submission:
    """Return the submission of a parsed record.

    Args:
        folder: Run folder on this machine.
        document: Content of the record.
        source: Path of the record, for messages.

    Raises:
        LaunchError: It is no record, or one of another version.
    """
    if not isinstance(document, dict) or document.get("version") != _VERSION:
        raise LaunchError(f"{source} was written by another version of Temper")
    try:
        return _from_document(folder, document)
    except (KeyError, TypeError, AttributeError) as error:
        raise LaunchError(f"{source} is no record of a run ({error!r})") from None


# The attributes were renamed after version 1 of the file was published; the file keeps its keys.


def _to_document(submission: Submission) -> dict[str, Any]:
    final_status = submission.final_status
    return {
        "version": _VERSION,
        "run": submission.run,
        "target": submission.target,
        "environment": submission.environment,
        "creator": submission.creator,
        "created": submission.created,
        "attempts": [
            {"name": attempt.name, "handle": attempt.handle, "asked": attempt.requested_at}
            for attempt in submission.attempts
        ],
        "cancelled": submission.cancelled,
        "seen": dataclasses.asdict(final_status) if final_status else None,
        "facts": {},
        **({"adopted": True} if submission.adopted else {}),
    }


def _from_document(folder: Path, document: dict[str, Any]) -> Submission:
    final_status = document.get("seen")
    return Submission(
        folder=folder,
        run=document["run"],
        target=document["target"],
        environment=document["environment"],
        creator=document["creator"],
        created=document["created"],
        attempts=tuple(
            Attempt(attempt["name"], attempt.get("handle", ""), attempt.get("asked", ""))
            for attempt in document["attempts"]
        ),
        cancelled=document.get("cancelled", False),
        final_status=Status(**final_status) if final_status else None,
        adopted=document.get("adopted", False),
    )


def new_run_id() -> str:
    """Return an id that sorts by time and is unique between users who submit at the same time."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def attempt_name(run: str, number: int, job_prefix: str = "") -> str:
    """Return the job name of a run's attempt: at most 63 letters, digits and hyphens.

    Args:
        run: `<name>/<run id>`.
        number: Number of the attempt, from 1.
        job_prefix: First part of the name, by which the target's policies tell its own jobs from
            those of others; none if empty.
    """
    name, _, run_id = run.partition("/")
    name = f"{job_prefix}-{name}" if job_prefix else name
    suffix = f"-{run_id}" + (f"-{number}" if number > 1 else "")
    return name[: _MAX_NAME_LENGTH - len(suffix)].rstrip("-") + suffix


def attempt_number(job: str, run: str) -> int:
    """Return the number of the attempt that `attempt_name` named.

    Args:
        job: Name of the job.
        run: `<name>/<run id>`.
    """
    suffix = job.rpartition(run.partition("/")[2])[2].removeprefix("-")
    return int(suffix) if suffix.isdecimal() else 1


def now() -> str:
    """Return the current time as ISO 8601 in UTC."""
    return time.strftime("%FT%TZ", time.gmtime())


def current_user() -> str:
    """Return the login name to record as the creator of a run; empty if unknown."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
