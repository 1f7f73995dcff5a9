"""Run folder: its files, the state of the run, and the resolved job.

A run is in `runs/<name>/<run id>/`; `runs/<name>/latest` is a link to the newest.
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

# Sections that may differ when a run is resumed: they change where and how fast it runs, not what
# it learns.
_NOT_IDENTITY = (
    "resources",
    "sharding",
    "checkpoint",
    "tracking",
    "guards",
    "export",
    "export_formats",
)


_MIN_FREE_BYTES = 1 << 16


class RunFolder:
    """Folder of one run.

    Args:
        path: Path of the folder, which `create` makes.
    """

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self.merged = path / "export" / "safetensors"
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
        """Resolved job of the run."""
        # Imported here: commands that only list runs start faster without the job checks.
        import yaml

        from training.config.load import parse_job

        return parse_job(yaml.safe_load((self.path / "job.yaml").read_text()), str(self.path))

    @property
    def state(self) -> State | None:
        """State of the run; None if the folder is not a run."""
        try:
            state: State = json.loads((self.path / "status.json").read_text())["state"]
        except (OSError, ValueError, KeyError):
            return None
        return state

    def set_state(self, state: State, **facts: Any) -> None:
        """Write the state of the run."""
        text = json.dumps({"state": state, "time": time.strftime("%FT%TZ", time.gmtime()), **facts})
        write_whole(self.path / "status.json", text + "\n")

    def note_end(self, state: State, **facts: Any) -> None:
        """Write the state of a run that did not finish, ignoring a full disk.

        A second error from the write must not hide the reason why the run ended.
        """
        with suppress(OSError):
            self.set_state(state, **facts)

    @property
    def is_full(self) -> bool:
        """True if the disk of this folder has no space left for a message."""
        return shutil.disk_usage(self.path).free < _MIN_FREE_BYTES

    def explain_full(self) -> str:
        """Return the message for a run that failed because the disk is full."""
        steps = [p.name.rpartition("-")[2] for p in self.checkpoints.glob("checkpoint-*")]
        newest = max((int(step) for step in steps if step.isdigit()), default=None)
        rest = "There is no checkpoint yet" if newest is None else f"checkpoint-{newest} is intact"
        return f"the disk of {self.path} is full. {rest}. Free space; the same command resumes"

    def write_failure(self, message: str, exit_code: int, *, explained: bool = True) -> None:
        """Write the failure for the supervisor; only the first process to fail writes it.

        Later failures are usually a consequence of the first: a peer that is gone.

        Args:
            message: Message for the user.
            exit_code: Exit code of the command.
            explained: True for a `TemperError`, False for an unexpected exception.
        """
        failure = {"message": message, "exit_code": exit_code, "explained": explained}
        try:
            with self.failure.open("x", encoding="utf-8") as file:
                json.dump(failure, file)
        except OSError:
            return

    def read_failure(self) -> TemperError | None:
        """Return the failure that a process wrote, as an error with its exit code."""
        try:
            failure = json.loads(self.failure.read_text())
            message, exit_code = str(failure["message"]), int(failure["exit_code"])
        except (OSError, ValueError, KeyError):
            return None
        if exit_code == Interrupted.exit_code:
            return Interrupted(message)
        error = RunError(message) if failure.get("explained", True) else CrashError(message)
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
    """Return the keys that differ between two jobs and change the trained weights."""
    return sorted(_differing(_identity(mine), _identity(other), ""))


def _identity(job: Job | Pipeline) -> dict[str, Any]:
    document = _resolved(job)
    for run in document.get("stages", [document]):
        for section in _NOT_IDENTITY:
            run.pop(section, None)
        run["train"].pop("micro_batch_size", None)
        run["data"].pop("workers", None)
        run["evaluate"].pop("safety", None)
        run["evaluate"].pop("suite", None)
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
    """Write a file atomically: a reader sees the old text or the new one."""
    building = path.with_name(f".{path.name}.writing")
    building.write_text(text, encoding="utf-8")
    building.replace(path)


def point_latest(run: Path) -> None:
    """Point the link `latest` next to a run at it, atomically."""
    link = run.parent / "latest"
    building = run.parent / ".latest.writing"
    building.unlink(missing_ok=True)
    building.symlink_to(run.name)
    building.replace(link)


@contextmanager
def hold(run: Path) -> Iterator[None]:
    """Hold a shared lock on a run folder, which the kernel releases if the process dies."""
    handle = os.open(run / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def is_held(run: Path) -> bool:
    """Return True if a process holds the lock of a run folder.

    Raises:
        RunError: The lock cannot be tested, which does not show that no process holds it.
    """
    try:
        handle = os.open(run / ".lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RunError(_untested_lock(run, error)) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise RunError(_untested_lock(run, error)) from error
    finally:
        os.close(handle)
    return False


def _untested_lock(run: Path, error: OSError) -> str:
    return (
        f"{run / '.lock'} cannot be tested ({error.strerror}), so it is unknown whether a process "
        "trains this run. Look from the machine and as the user that started it"
    )
