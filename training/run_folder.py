"""The folder of a run: its names, its state, and the resolved job in it.

`runs/<name>/<run id>/`, and `runs/<name>/latest` points at the newest.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from training.errors import CrashError, Interrupted, RunError, TemperError

if TYPE_CHECKING:
    from training.config import Job, Pipeline

State = Literal["running", "finished", "stopped", "failed"]

# What may differ between a run and its continuation: it changes where and how fast, not what.
_NOT_IDENTITY = ("resources", "sharding", "checkpoint", "tracking", "guards")


_ROOM_FOR_A_MESSAGE = 1 << 16


class RunFolder:
    """One run on disk.

    Args:
        path: The folder; made by `create`.
    """

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self.logs = path / "logs"
        self.failure = path / "failure.json"
        self.cache = Path(os.environ.get("TEMPER_CACHE") or Path.home() / ".cache/temper")

    @classmethod
    def create(cls, path: Path, job: Job | Pipeline) -> RunFolder:
        """Make the folder and write the resolved job into it.

        Raises:
            RunError: It cannot be written.
        """
        folder = cls(path)
        try:
            folder.logs.mkdir(parents=True, exist_ok=True)
            write_whole(path / "job.yaml", resolved_yaml(job))
            folder.set_state("running")
        except OSError as error:
            raise RunError(
                f"the run folder {path} cannot be written: {error.strerror or error}. Make it "
                f"writable, free space, or name another place with --runs"
            ) from error
        return folder

    @property
    def job(self) -> Job | Pipeline:
        """The job as it was resolved."""
        # Imported here: whoever only looks at runs need not wait for what checks jobs.
        import yaml

        from training.config.load import parse_job

        return parse_job(yaml.safe_load((self.path / "job.yaml").read_text()), str(self.path))

    @property
    def state(self) -> State | None:
        """How far the run came, or None for a folder that is no run."""
        try:
            state: State = json.loads((self.path / "status.json").read_text())["state"]
        except (OSError, ValueError, KeyError):
            return None
        return state

    def set_state(self, state: State, **facts: Any) -> None:
        """Write how far the run came."""
        text = json.dumps({"state": state, "time": time.strftime("%FT%TZ", time.gmtime()), **facts})
        write_whole(self.path / "status.json", text + "\n")

    def note_end(self, state: State, **facts: Any) -> None:
        """Write how a run ended that did not finish; a full disk must not hide why it ended."""
        with suppress(OSError):
            self.set_state(state, **facts)

    @property
    def is_full(self) -> bool:
        """Whether the disk of this folder has no room for even a message."""
        return shutil.disk_usage(self.path).free < _ROOM_FOR_A_MESSAGE

    def explain_full(self) -> str:
        """Return what to tell a person whose run has met a full disk."""
        steps = [p.name.rpartition("-")[2] for p in self.checkpoints.glob("checkpoint-*")]
        newest = max((int(step) for step in steps if step.isdigit()), default=None)
        rest = "There is no checkpoint yet" if newest is None else f"checkpoint-{newest} is intact"
        return f"the disk of {self.path} is full. {rest}. Free space, and the same command goes on"

    def write_failure(self, message: str, exit_code: int, *, explained: bool = True) -> None:
        """Leave word for the supervisor; the first process to fail is the one that is heard.

        Args:
            message: For a person.
            exit_code: Of the command.
            explained: Whether this is an error of ours, rather than one nobody foresaw.
        """
        word = {"message": message, "exit_code": exit_code, "explained": explained}
        try:
            with self.failure.open("x", encoding="utf-8") as file:
                json.dump(word, file)
        except OSError:
            return

    def read_failure(self) -> TemperError | None:
        """Return what a process left word of, as an error with the exit code that goes with it."""
        try:
            left = json.loads(self.failure.read_text())
            message, exit_code = str(left["message"]), int(left["exit_code"])
        except (OSError, ValueError, KeyError):
            return None
        if exit_code == Interrupted.exit_code:
            return Interrupted(message)
        error = RunError(message) if left.get("explained", True) else CrashError(message)
        error.exit_code = exit_code
        return error


def resolved_yaml(job: Job | Pipeline) -> str:
    """Return the job with every default written out, readable by `load_job`."""
    import yaml

    return yaml.safe_dump(_resolved(job), sort_keys=False, allow_unicode=True, width=100)


def _resolved(job: Job | Pipeline) -> dict[str, Any]:
    document: dict[str, Any] = job.model_dump(mode="json", exclude_none=True)
    for run in document.get("stages", [document]):
        if "max_steps" in run["train"]:
            del run["train"]["num_train_epochs"]
    return document


def differences(mine: Job | Pipeline, other: Job | Pipeline) -> list[str]:
    """Return the keys in which two jobs would train to different weights."""
    return sorted(_differing(_identity(mine), _identity(other), ""))


def _identity(job: Job | Pipeline) -> dict[str, Any]:
    document = _resolved(job)
    for run in document.get("stages", [document]):
        for section in _NOT_IDENTITY:
            run.pop(section, None)
        run["train"].pop("micro_batch_size", None)
        run["data"].pop("workers", None)
    return document


def _differing(mine: Any, other: Any, path: str) -> list[str]:
    if isinstance(mine, dict) and isinstance(other, dict):
        found = []
        for key in mine.keys() | other.keys():
            found += _differing(mine.get(key), other.get(key), f"{path}.{key}" if path else key)
        return found
    if isinstance(mine, list) and isinstance(other, list) and len(mine) == len(other):
        found = []
        for index, (a, b) in enumerate(zip(mine, other, strict=True)):
            found += _differing(a, b, f"{path}.{index}")
        return found
    return [] if mine == other else [path]


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old text or the new one, never half."""
    building = path.with_name(f".{path.name}.writing")
    building.write_text(text, encoding="utf-8")
    building.replace(path)


def point_latest(run: Path) -> None:
    """Make `latest` beside `run` point at it."""
    link = run.parent / "latest"
    building = run.parent / ".latest.writing"
    building.unlink(missing_ok=True)
    building.symlink_to(run.name)
    building.replace(link)


@contextmanager
def hold(run: Path) -> Iterator[None]:
    """Mark a run folder as being worked in, by this process, for as long as it lives."""
    handle = os.open(run / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def is_held(run: Path) -> bool:
    """Whether some process works in a run folder."""
    try:
        handle = os.open(run / ".lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False
