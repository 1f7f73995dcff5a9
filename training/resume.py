"""Which folder a command trains in: a new one, or one whose run it goes on with."""

from __future__ import annotations

import time
from pathlib import Path

from training.config import Job, Pipeline
from training.console import say
from training.errors import JobError, RunError
from training.nodes import NodeSet
from training.run_folder import RunFolder, differences, is_held

_DYING_S = 10
"""How long processes of a killed command may take to be gone."""


def acquire(job: Job | Pipeline, path: Path, nodes: NodeSet) -> RunFolder:
    """Return the run folder that was named, begun or gone on with.

    Raises:
        RunError: It holds another run.
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
                f"an empty folder, or the job it was begun with"
            )
        refuse_if_alive(path)
        say(f"going on with {path}")
        folder.failure.unlink(missing_ok=True)
    return RunFolder.create(path, job)


def _changed(job: Job | Pipeline, folder: RunFolder) -> list[str]:
    try:
        return differences(job, folder.job)
    except (JobError, OSError):
        return ["what another version wrote"]


def find_or_create(job: Job | Pipeline, home: Path, fresh: bool) -> RunFolder:
    """Return the newest run of the job in `home` if it can go on, or a new one.

    Raises:
        RunError: It is being trained at this moment, or no folder can be written.
    """
    latest = RunFolder((home / "latest").resolve())
    if not fresh and latest.state in ("running", "stopped", "failed"):
        changed = _changed(job, latest)
        if not changed:
            refuse_if_alive(latest.path)
            say(f"going on with {latest.path.name} (FRESH=1 starts over)")
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
    """Raise while a process of an earlier command still trains in this run folder.

    Raises:
        RunError: Says what to do.
    """
    end = time.monotonic() + _DYING_S
    while is_held(path):
        if time.monotonic() > end:
            raise RunError(
                f"{path} is being trained by another process. Wait for it, or stop it; FRESH=1 "
                f"starts another run beside it"
            )
        time.sleep(0.1)
