"""Target `local`: runs on this machine, described completely by their run folders.

`python -m training` creates and maintains the folders; this target reads, stops and resumes them.
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
from launch.notify_command import notify
from launch.status import Status
from launch.submission import Submission, TargetName
from launch.targets.base import Quote
from training.errors import TemperError
from training.run_folder import RunFolder, is_held
from training.tracking.progress_lines import evaluation_line, progress_line

if TYPE_CHECKING:
    from launch.environment import LaunchEnvironment
    from launch.prepared_job import PreparedJob

_POLL_INTERVAL_S = 1.0
_TAIL_BYTES = 1 << 16


def from_environment(environment: LaunchEnvironment | None) -> LocalTarget:
    """Return this machine, which belongs to no environment."""
    return LocalTarget()


class LocalTarget:
    """Target that trains on this machine."""

    name: TargetName = "local"
    job_prefix = ""

    def quote(self, prepared: PreparedJob) -> Quote:
        """Return a quote without a question: nothing is charged on this machine."""
        return Quote((prepared.plan.machine,))

    def submit(self, submission: Submission, prepared: PreparedJob) -> Submission:
        """Train in the foreground until the run is over.

        Raises:
            LaunchError: Training failed; it printed the reason, and the error has its exit code.
        """
        resume_run(submission)
        return submission

    def status(self, submission: Submission) -> Status:
        """Return the status that the run folder records."""
        return read_folder(submission.folder)

    def logs(self, submission: Submission, *, follow: bool) -> Iterator[str]:
        """Yield the logged steps of a run, and with `follow` those to come."""
        printed: dict[Path, int] = {}
        while True:
            # Read before the files: rows written between the two calls are then never missed.
            over = not is_held(submission.folder)
            for path in _metric_files(submission.folder):
                rows = _rows(path)
                steps = _total_steps(path)
                yield from (_line(row, steps) for row in rows[printed.get(path, 0) :])
                printed[path] = len(rows)
            if over or not follow:
                return
            time.sleep(_POLL_INTERVAL_S)

    def stop(self, submission: Submission) -> str:
        """Send SIGTERM to the processes of a run; they save a checkpoint and end."""
        holders = _holders(submission.folder)
        if not holders:
            return f"{submission.run} is not being trained"
        for pid in holders:
            os.kill(pid, signal.SIGTERM)
        return f"{submission.run} was told to stop; it saves a checkpoint first"

    def fetch(self, submission: Submission, *, archive: bool, checkpoints: bool) -> list[Path]:
        """Return the model, which is in the run folder already; pack it on request.

        Args:
            submission: The run.
            archive: Pack the model as `model.tar.gz`.
            checkpoints: Ignored: the checkpoints are in the run folder.
        """
        model = submission.folder / "model"
        if not model.exists():
            return []
        if not archive:
            return [model]
        packed = submission.folder / "model.tar.gz"
        partial = packed.with_name(f".{packed.name}.writing")
        with tarfile.open(partial, "w:gz", dereference=True) as file:
            for part in sorted(model.iterdir()):
                file.add(part, part.name)
        partial.replace(packed)
        return [packed]

    def remote_storage(self, submission: Submission) -> list[tuple[str, int]]:
        """Return nothing: everything is in the run folder."""
        return []

    def delete(self, submission: Submission) -> list[str]:
        """Delete nothing: the caller deletes the run folder."""
        return []


def resume_run(submission: Submission, overrides: str = "") -> None:
    """Train a run's job in its folder, in the foreground, until the run is over.

    A job that names a container image is trained in a container.

    Raises:
        LaunchError: Training failed; it printed the reason, and the error has its exit code.
    """
    done = subprocess.run(_command(submission.folder, overrides), check=False)
    notify(submission.run, done.returncode)
    if done.returncode:
        error = LaunchError(f"{submission.run} ended with code {done.returncode}")
        error.exit_code = done.returncode
        raise error


def _command(folder: Path, overrides: str) -> list[str]:
    job = RunFolder(folder).job
    first = job if not hasattr(job, "stages") else job.stages[0]
    if first.resources.image:
        from launch.local_container import container_command

        return container_command(first.resources.image, job, folder, overrides)
    command = [sys.executable, "-m", "training", str(folder / "job.yaml"), "--folder", str(folder)]
    return [*command, *(["--set", *overrides.split()] if overrides else [])]


def read_folder(folder: Path) -> Status:
    """Return the status of a run of this machine from its folder.

    `status.json` alone is not enough: a killed process leaves `running` in it. The lock that every
    training process holds on the folder shows whether one is alive.
    """
    step, loss = _last_step(folder)
    state = RunFolder(folder).state
    if state == "finished":
        return Status("not deployed", step=step, loss=loss)
    try:
        held = is_held(folder)
    except TemperError as error:
        # A lock that cannot be tested is no evidence that the run has ended.
        return Status("training", str(error), step, loss)
    if held:
        return Status("training", step=step, loss=loss)
    if state == "failed":
        return Status("training failed", _failure_message(folder), step, loss)
    if state == "running":
        detail = "its process is gone: rerun the same command to resume"
        return Status("stopped", detail, step, loss)
    return Status("stopped" if state == "stopped" else "planned", step=step, loss=loss)


def _failure_message(folder: Path) -> str:
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
    """Return the complete rows of a metrics file; with `tail` only those near its end.

    The last line may still be written, and the first after a seek may be cut: both are no JSON
    and are skipped.
    """
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


def _total_steps(metrics: Path) -> int:
    """Return the length of the run that writes a metrics file; 0 before its manifest exists."""
    try:
        return int(json.loads(metrics.with_name("manifest.json").read_text())["steps"])
    except (OSError, ValueError, KeyError):
        return 0


def _line(row: dict[str, Any], steps: int) -> str:
    steps = steps or row["step"]
    if "loss" in row:
        return progress_line(row, steps)
    metrics = {k.removeprefix("eval_"): v for k, v in row.items() if k.startswith("eval_")}
    return evaluation_line(row["step"], steps, metrics)


def _holders(folder: Path) -> list[int]:
    """Return the processes to signal: the supervisor that locks the folder, or else its workers.

    A supervisor forwards the signal to its workers; signalling both would deliver it twice.
    """
    try:
        inode = (folder / ".lock").stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return []
    fields = [line.split() for line in lines if " FLOCK " in line]
    held = {int(f[4]) for f in fields if f[5].rpartition(":")[2] == str(inode)} - {0, os.getpid()}
    commands = {pid: _command_line(pid) for pid in held}
    supervisors = [pid for pid, words in commands.items() if "training.worker" not in words]
    return sorted(supervisors or commands)


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
