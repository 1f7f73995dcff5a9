"""Choice of the run folder that a command trains in: a new one, or one to resume."""

from __future__ import annotations

import time
from pathlib import Path

from training.config import Job, Pipeline
from training.console import say
from training.errors import JobError, RunError
from training.nodes import NodeSet
from training.run_folder import RunFolder, differences, is_held

_EXIT_TIMEOUT_S = 10
"""Time that the processes of a killed command have to exit."""


def acquire(job: Job | Pipeline, path: Path, nodes: NodeSet) -> RunFolder:
    """Return the run folder at `path`, created or prepared for a resume.

    Args:
        job: The job to run.
        path: Run folder named by the command.
        nodes: Nodes of the run; only those that keep a folder write to it.

    Raises:
        RunError: The folder holds a run of another job.
    """
    folder = RunFolder(path)
    if not nodes.keeps_folder or folder.state == "finished":
        folder.logs.mkdir(parents=True, exist_ok=True)
        return folder
    if folder.state is not None:
        changed = _changed(job, folder)
        if changed:
            raise RunError(
                f"{path} holds a run of another job: it differs in {', '.join(changed[:4])}. Name "
                f"an empty folder, or the job it was started with"
            )
        refuse_if_alive(path)
        say(f"resuming {path}")
        folder.failure.unlink(missing_ok=True)
    return RunFolder.create(path, job)


def _changed(job: Job | Pipeline, folder: RunFolder) -> list[str]:
    try:
        return differences(job, folder.job)
    except (JobError, OSError):
        return ["the format of another version"]


def find_or_create(job: Job | Pipeline, home: Path, fresh: bool) -> RunFolder:
    """Return the newest run of the job if it can be resumed, or a new one.

    Args:
        job: The job to run.
        home: Folder with the runs of this job.
        fresh: Start a new run in any case.

    Raises:
        RunError: The run is being trained by another process, or no folder can be written.
    """
    latest = RunFolder((home / "latest").resolve())
    if not fresh and latest.state in ("running", "stopped", "failed"):
        changed = _changed(job, latest)
        if not changed:
            refuse_if_alive(latest.path)
            say(f"resuming {latest.path.name} (--fresh starts over)")
            latest.failure.unlink(missing_ok=True)
            return RunFolder.create(latest.path, job)
        say(f"{latest.path.name} is unfinished but differs in {', '.join(changed[:4])}: new run")
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = home / stamp
    number = 1
    while path.exists():
        number += 1
        path = home / f"{stamp}-{number}"
    return RunFolder.create(path, job)


def refuse_if_alive(path: Path) -> None:
    """Raise if a process of an earlier command still trains in this run folder.

    Raises:
        RunError: The folder is still locked after the time that a killed process needs to exit.
    """
    end = time.monotonic() + _EXIT_TIMEOUT_S
    while is_held(path):
        if time.monotonic() > end:
            raise RunError(
                f"{path} is being trained by another process. Wait for it, or stop it; --fresh "
                f"starts a separate run"
            )
        time.sleep(0.1)
