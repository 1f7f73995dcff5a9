"""`launch.json` in a run folder: where the run was sent, as what, and how it was last seen.

The folder is made, and the name of the job in it is chosen, before anything is sent. So whatever
happens in between, the same command finds out whether the job exists and never starts a second.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from launch.errors import LaunchError
from launch.status import Status
from training.run_folder import write_whole

FILE = "launch.json"
TargetName = Literal["local", "sagemaker", "hyperpod", "slurm", "eks"]
_VERSION = 1
_NAME_LIMIT = 63


@dataclass(frozen=True)
class Attempt:
    """One job on a target; a run that is resumed has several.

    Attributes:
        name: Chosen by us, unique and legal there.
        handle: The target's own name for it (an ARN, a job number); empty until it was accepted.
        asked: When, as ISO 8601 in UTC.
    """

    name: str
    handle: str = ""
    asked: str = ""


@dataclass(frozen=True)
class SubmissionRecord:
    """What is known of a run that was sent somewhere.

    Attributes:
        run: `<name>/<run id>`.
        target: Where to.
        environment: Of the platform, or empty.
        creator: Who sent it.
        created: When, as ISO 8601 in UTC.
        attempts: Oldest first.
        cancelled: Stopped by a person before it was accepted.
        seen: The last status that will not change, so that it need not be asked for again.
        facts: The target's own: addresses, queues, what was uploaded.
    """

    run: str
    target: TargetName
    environment: str
    creator: str
    created: str
    attempts: tuple[Attempt, ...] = ()
    cancelled: bool = False
    seen: Status | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def latest(self) -> Attempt:
        """The attempt that counts."""
        return self.attempts[-1]

    def write(self, folder: Path) -> None:
        """Write it into the run folder, whole."""
        write_whole(
            folder / FILE,
            json.dumps({"version": _VERSION, **dataclasses.asdict(self)}, indent=1) + "\n",
        )

    def accepted(self, handle: str) -> SubmissionRecord:
        """Return it with the target's name for the latest attempt."""
        last = dataclasses.replace(self.latest, handle=handle)
        return dataclasses.replace(self, attempts=(*self.attempts[:-1], last))

    def again(self) -> SubmissionRecord:
        """Return it with one more attempt, under a name of its own."""
        name = attempt_name(self.run, len(self.attempts) + 1)
        attempts = (*self.attempts, Attempt(name, asked=now()))
        return dataclasses.replace(self, attempts=attempts, seen=None, cancelled=False)


def read_submission_record(folder: Path) -> SubmissionRecord | None:
    """Return the record of a run that was sent somewhere, or None.

    Raises:
        LaunchError: It is there and cannot be read.
    """
    path = folder / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LaunchError(
            f"{path} cannot be read: {error}. Delete the folder to be rid of it"
        ) from None
    if found.get("version") != _VERSION:
        raise LaunchError(f"{path} was written by another version of Temper")
    del found["version"]
    found["attempts"] = tuple(Attempt(**attempt) for attempt in found["attempts"])
    found["seen"] = Status(**found["seen"]) if found["seen"] else None
    return SubmissionRecord(**found)


def new_run_id() -> str:
    """Return an id that sorts by time and that no two people choose at once."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def attempt_name(run: str, number: int) -> str:
    """Return the name of a run's attempt on a target: at most 63 letters, digits and hyphens.

    Args:
        run: `<name>/<run id>`.
        number: From 1.
    """
    name, _, run_id = run.partition("/")
    suffix = f"-{run_id}" + (f"-{number}" if number > 1 else "")
    return name[: _NAME_LIMIT - len(suffix)].rstrip("-") + suffix


def now() -> str:
    """Return the time as ISO 8601 in UTC."""
    return time.strftime("%FT%TZ", time.gmtime())
