"""Start the processes of a job, stage after stage, and see them to their end.

Runs beside the training and never imports torch: it checks the job, finds a run to go on with,
starts one worker (or torchrun with several), hands signals on, and turns whatever happens into one
clear message and an exit code.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from training.config import Job, Pipeline
from training.config.job import Stage
from training.config.model import PREVIOUS
from training.errors import Interrupted, JobError, Problem, RunError, TemperError
from training.runfolder import RunFolder, differences, hold, is_held, point_latest

logger = logging.getLogger(__name__)

SAVE_BUDGET_S = 90
"""How long a stopped run may take to save before it is killed."""

_DYING_S = 10
"""How long processes of a killed command may take to be gone."""


def supervise(job: Job | Pipeline, *, runs: Path, fresh: bool, source: str) -> Path:
    """Run `job` to its end and return its run folder.

    Args:
        job: Checked.
        runs: Where run folders are.
        fresh: Start over even where an unfinished run of this job could go on.
        source: The job file's name, for messages.

    Raises:
        TemperError: With the message and exit code of whatever stopped it.
    """
    for run in job.stages if isinstance(job, Pipeline) else (job,):
        _check_processes(run, source)
    folder = _find_or_create(job, runs / job.name, fresh)
    point_latest(folder.path)
    say(f"run folder: {folder.path}")
    try:
        with hold(folder.path), _handing_signals_on() as workers:
            if isinstance(job, Pipeline):
                _run_stages(job, folder, workers)
            else:
                _run_worker(job, folder, workers)
    except Interrupted:
        folder.set_state("stopped")
        raise
    except TemperError as error:
        folder.set_state("failed", message=str(error))
        raise
    folder.set_state("finished")
    return folder.path


def _find_or_create(job: Job | Pipeline, home: Path, fresh: bool) -> RunFolder:
    latest = RunFolder((home / "latest").resolve())
    if not fresh and latest.state in ("running", "stopped", "failed"):
        try:
            changed = differences(job, latest.job)
        except JobError:
            changed = ["written by another version"]
        if not changed:
            _refuse_if_alive(latest.path)
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


def _refuse_if_alive(path: Path) -> None:
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


def _run_stages(job: Pipeline, folder: RunFolder, workers: _Workers) -> None:
    previous: Path | None = None
    for number, stage in enumerate(job.stages, start=1):
        path = folder.path / "stages" / f"{number:02d}-{stage.name}"
        run = Job.model_validate(_stage_document(stage, job.name, previous))
        stage_folder = RunFolder(path)
        if stage_folder.state == "finished":
            say(f"stage {number}/{len(job.stages)} {stage.name}: already done")
        else:
            say(f"stage {number}/{len(job.stages)} {stage.name}")
            _refuse_if_alive(path)
            stage_folder.failure.unlink(missing_ok=True)
            stage_folder = RunFolder.create(path, run)
            _run_worker(run, stage_folder, workers)
            stage_folder.set_state("finished")
        previous = stage_folder.model
    assert previous is not None
    link = folder.model
    link.unlink(missing_ok=True)
    link.symlink_to(previous.relative_to(folder.path))


def _stage_document(stage: Stage, pipeline: str, previous: Path | None) -> dict[str, object]:
    document = stage.model_dump(mode="json", exclude_none=True)
    if stage.train.max_steps is not None:
        del document["train"]["num_train_epochs"]
    document["name"] = f"{pipeline}-{stage.name}"[:63].rstrip("-")
    if stage.model.source == PREVIOUS:
        document["model"]["source"] = str(previous)
    return document


def _run_worker(job: Job, folder: RunFolder, workers: _Workers) -> None:
    """Start the worker processes of one run and wait for them.

    Raises:
        TemperError: What they left word of.
    """
    processes = job.resources.processes or max(1, num_accelerators())
    command = [sys.executable, "-m", "training.worker", str(folder.path)]
    if processes > 1 or job.sharding.zero or job.sharding.fsdp != "none":
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(processes), "--shutdown-timeout", str(SAVE_BUDGET_S)),
            *("-m", "training.worker", str(folder.path)),
        ]
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, num_cores() // processes)))
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    log = folder.logs / "worker.log"
    with log.open("ab") as stderr:
        code = workers.run(command, stderr=stderr, env=environment)
    if code == 0:
        return
    if left := folder.read_failure():
        message, exit_code = left
        error = Interrupted(message) if exit_code == Interrupted.exit_code else RunError(message)
        error.exit_code = exit_code
        raise error
    if workers.told is not None:
        # The signal came before the worker could listen for it: nothing had been done yet.
        raise Interrupted(f"stopped by {workers.told.name}; the same command goes on")
    raise RunError(_explain_death(code, log))


def _explain_death(code: int, log: Path) -> str:
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return (
            "the training process was killed, most likely for memory. Lower "
            "train.micro_batch_size or data.max_length, or set train.gradient_checkpointing: true. "
            "The same command goes on from the last checkpoint"
        )
    tail = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-3:]
    return f"the training process ended with code {code}. The log {log} ends: {' / '.join(tail)}"


class _Workers:
    """Runs the workers of a job one after the other, and hands them the signals that come."""

    def __init__(self) -> None:
        self.told: signal.Signals | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, command: list[str], **options: Any) -> int:
        """Start a worker and return its exit code.

        Raises:
            Interrupted: Told to stop before it could be started.
        """
        if self.told is not None:
            raise Interrupted(f"stopped by {self.told.name}; the same command goes on")
        self._child = subprocess.Popen(command, **options)
        if self.told is not None:
            # It came while the worker was being started.
            self._child.send_signal(self.told)
        code = self._child.wait()
        self._child = None
        return code

    def hand_on(self, number: int, frame: FrameType | None) -> None:
        """Remember a signal, and send it to the worker."""
        self.told = signal.Signals(number)
        child = self._child
        # A terminal sends Ctrl-C to the whole group: the worker has it already.
        if child and child.poll() is None and not (number == signal.SIGINT and sys.stdin.isatty()):
            child.send_signal(number)


@contextmanager
def _handing_signals_on() -> Iterator[_Workers]:
    """Hand SIGTERM, SIGINT and SIGUSR1 to the workers, and outlive them."""
    workers = _Workers()
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.signal(number, workers.hand_on) for number in numbers}
    try:
        yield workers
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_processes(job: Job, source: str) -> None:
    wanted, devices, cores = job.resources.processes, num_accelerators(), num_cores()
    if wanted is None:
        return
    room, what = (devices, "accelerators") if devices else (cores, "cores")
    if wanted > room:
        problem = Problem(
            "resources.processes",
            f"this machine has {room} {what}",
            str(wanted),
            f"Set it to {room} or less",
        )
        raise JobError(source, [problem])


def num_cores() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0))


def num_accelerators() -> int:
    """Return the accelerators of this machine, without loading a driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([part for part in visible.split(",") if part.strip() not in ("", "-1")])
    devices = Path("/dev")
    nvidia = len([p for p in devices.glob("nvidia[0-9]*") if p.name[6:].isdigit()])
    return nvidia or len(list(devices.glob("neuron[0-9]*")))


def say(line: str) -> None:
    """Print one line to the person, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
