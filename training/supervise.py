"""Start the processes of a job, stage after stage, and see them to their end.

Runs beside the training and never imports torch: it checks the job, finds a run to go on with,
starts one worker (or torchrun with several), hands signals on, and turns whatever happens into one
clear message and an exit code.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.config import Job, Pipeline
from training.config.job import Stage
from training.config.model import PREVIOUS
from training.errors import Interrupted, JobError, Problem, RunError, TemperError
from training.processes import Workers, handing_signals_on, num_accelerators, num_cores
from training.report.publish import Publisher
from training.report.screen import mend_terminal
from training.runfolder import RunFolder, differences, hold, is_held, point_latest
from training.speak import say

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
    publisher = Publisher(runs)
    try:
        with (
            hold(folder.path),
            _saying_how_it_ends(folder, publisher),
            handing_signals_on() as workers,
        ):
            if isinstance(job, Pipeline):
                _run_stages(job, folder, workers, publisher)
            else:
                _run_worker(job, folder, workers, publisher)
    finally:
        publisher.close()
    return folder.path


@contextmanager
def _saying_how_it_ends(folder: RunFolder, publisher: Publisher) -> Iterator[None]:
    try:
        yield
    except Interrupted:
        folder.note_end("stopped")
        raise
    except TemperError as error:
        folder.note_end("failed", message=str(error))
        raise
    else:
        folder.set_state("finished")
    finally:
        publisher.ended(folder.path)


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


def _run_stages(job: Pipeline, folder: RunFolder, workers: Workers, publisher: Publisher) -> None:
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
            with _saying_how_it_ends(stage_folder, publisher):
                _run_worker(run, stage_folder, workers, publisher)
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


def _run_worker(job: Job, folder: RunFolder, workers: Workers, publisher: Publisher) -> None:
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
    if not num_accelerators():
        # Named, DeepSpeed need not look for one, nor warn on the terminal that it found none.
        environment.setdefault("DS_ACCELERATOR", "cpu")
    log = folder.logs / "worker.log"

    def started() -> None:
        if job.tracking.mlflow:
            publisher.follow(folder.path)

    with log.open("ab") as stderr:
        code = workers.run(command, started, stderr=stderr, env=environment)
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
    mend_terminal()
    if folder.is_full:
        raise RunError(folder.explain_full())
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
