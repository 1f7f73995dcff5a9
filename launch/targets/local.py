"""Runs of this machine: their folders say all there is to know.

`python -m training` makes and keeps them; here they are looked at, stopped, taken up again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.errors import LaunchError
from launch.status import Status
from launch.submission_record import SubmissionRecord, TargetName
from launch.targets.base import Quote, Submission
from training.run_folder import RunFolder, is_held
from training.tracking.progress_lines import evaluation_line, progress_line

if TYPE_CHECKING:
    from launch.environment import LaunchEnvironment
    from planning import Plan
    from training.config import Job, Pipeline

_EVERY_S = 1.0
_TAIL_BYTES = 1 << 16


def from_environment(environment: LaunchEnvironment | None) -> LocalTarget:
    """Return this machine, which is in no environment."""
    return LocalTarget()


class LocalTarget:
    """This machine."""

    name: TargetName = "local"

    def offer(self, job: Job | Pipeline, plan: Plan, source: str) -> Quote:
        """Say what is planned; nothing is paid for here."""
        return Quote((plan.machine,))

    def submit(self, sent: Submission, job: Job | Pipeline, plan: Plan) -> SubmissionRecord:
        """Train here, in front of the person, until it is over.

        Raises:
            LaunchError: With the exit code of the training; what went wrong was printed by it.
        """
        resume_run(sent)
        return sent.record

    def status(self, sent: Submission) -> Status:
        """Read the folder."""
        return read_folder(sent.folder)

    def logs(self, sent: Submission, *, follow: bool) -> Iterator[str]:
        """Yield the steps a run has logged, and those to come."""
        seen: dict[Path, int] = {}
        while True:
            over = not is_held(sent.folder)
            for path in _metric_files(sent.folder):
                rows = _rows(path)
                yield from (_line(row) for row in rows[seen.get(path, 0) :])
                seen[path] = len(rows)
            if over or not follow:
                return
            time.sleep(_EVERY_S)

    def stop(self, sent: Submission) -> str:
        """Send SIGTERM to the processes that hold the folder; they save and end."""
        found = _holders(sent.folder)
        if not found:
            return f"{sent.record.run} is not being trained"
        for pid in found:
            os.kill(pid, signal.SIGTERM)
        return f"{sent.record.run} was told to stop; it saves a checkpoint first"

    def fetch(self, sent: Submission, *, archive: bool, checkpoints: bool) -> list[Path]:
        """Pack the model, if that is asked for; it is here already."""
        model = sent.folder / "model"
        if not model.exists():
            return []
        if not archive:
            return [model]
        packed = sent.folder / "model.tar.gz"
        building = packed.with_name(f".{packed.name}.writing")
        with tarfile.open(building, "w:gz", dereference=True) as file:
            for part in sorted(model.iterdir()):
                file.add(part, part.name)
        building.replace(packed)
        return [packed]

    def belongings(self, sent: Submission) -> list[tuple[str, int]]:
        """Return nothing: all is in the run folder."""
        return []

    def delete(self, sent: Submission) -> list[str]:
        """Delete nothing: the run folder is deleted by whoever calls this."""
        return []


def resume_run(sent: Submission, overrides: str = "") -> None:
    """Train a run's job in its folder, in front of the person, until it is over.

    A job that names an image is trained in it.

    Raises:
        LaunchError: With the exit code of the training; what went wrong was printed by it.
    """
    done = subprocess.run(_command(sent.folder, overrides), check=False)
    if done.returncode:
        error = LaunchError(f"{sent.record.run} ended with code {done.returncode}")
        error.exit_code = done.returncode
        raise error


def _command(folder: Path, overrides: str) -> list[str]:
    job = RunFolder(folder).job
    first = job if not hasattr(job, "stages") else job.stages[0]
    if first.resources.image:
        from launch.local_container import command_in_image

        return command_in_image(first.resources.image, job, folder, overrides)
    command = [sys.executable, "-m", "training", str(folder / "job.yaml"), "--folder", str(folder)]
    return [*command, *(["--set", *overrides.split()] if overrides else [])]


def read_folder(folder: Path) -> Status:
    """Return where a run of this machine stands."""
    step, loss = _last_step(folder)
    held = is_held(folder)
    state = RunFolder(folder).state
    if state == "finished":
        return Status("not deployed", step=step, loss=loss)
    if held:
        return Status("training", step=step, loss=loss)
    if state == "failed":
        return Status("training failed", _why(folder), step, loss)
    if state == "running":
        return Status("stopped", "its process is gone: the same command goes on", step, loss)
    return Status("stopped" if state == "stopped" else "planned", step=step, loss=loss)


def _why(folder: Path) -> str:
    try:
        return str(json.loads((folder / "status.json").read_text()).get("message", ""))
    except (OSError, ValueError):
        return ""


def _metric_files(folder: Path) -> list[Path]:
    return [*sorted(folder.glob("stages/*/metrics.jsonl")), *folder.glob("metrics.jsonl")]


def _last_step(folder: Path) -> tuple[int | None, float | None]:
    for path in reversed(_metric_files(folder)):
        for row in reversed(_rows(path, tail=True)):
            if "loss" in row:
                return int(row["step"]), float(row["loss"])
    return None, None


def _rows(path: Path, *, tail: bool = False) -> list[dict[str, Any]]:
    """Return the whole lines of a file of metrics; with `tail` only some of the last."""
    try:
        with path.open("rb") as file:
            if tail:
                file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return [row for row in rows if isinstance(row, dict) and "step" in row]


def _line(row: dict[str, Any]) -> str:
    steps = int(row.get("max_steps", 0)) or row["step"]
    if "loss" in row:
        return progress_line(row, steps, 0)
    metrics = {k.removeprefix("eval_"): v for k, v in row.items() if k.startswith("eval_")}
    return evaluation_line(row["step"], steps, metrics)


def _holders(folder: Path) -> list[int]:
    """Return who must be told to stop: the command that holds the folder, or else its workers.

    A command hands the signal on to its workers; telling both would be telling them twice.
    """
    try:
        inode = (folder / ".lock").stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return []
    fields = [line.split() for line in lines if " FLOCK " in line]
    held = {int(f[4]) for f in fields if f[5].rpartition(":")[2] == str(inode)} - {0, os.getpid()}
    found = {pid: _command_line(pid) for pid in held}
    commands = [pid for pid, words in found.items() if "training.worker" not in words]
    return sorted(commands or found)


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
