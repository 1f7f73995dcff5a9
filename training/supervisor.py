"""Start the processes of a job, stage after stage, and see them to their end.

Runs beside the training and never imports torch: it checks the job, finds a run to go on with,
starts one worker (or torchrun with several), hands signals on, and turns whatever happens into one
clear message and an exit code.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from training.config import Job, Pipeline
from training.config.job import Stage
from training.config.model import PREVIOUS
from training.config.stage_references import ROWS, resolve_references
from training.console import say
from training.errors import CrashError, Interrupted, JobError, Problem, RunError, TemperError
from training.lora_rank_search import find_rank, wants_rank
from training.nodes import NodeSet
from training.processes import WorkerProcesses, handing_signals_on, num_accelerators, num_cores
from training.report.plan_vs_actual import prediction_line, write_predicted
from training.resume import acquire, find_or_create, refuse_if_alive
from training.run_folder import RunFolder, hold, point_latest
from training.tracking.background_publisher import BackgroundPublisher
from training.tracking.progress_display import restore_terminal

logger = logging.getLogger(__name__)

SAVE_BUDGET_S = 90
"""How long a stopped run may take to save before it is killed."""


def supervise(
    job: Job | Pipeline,
    *,
    runs: Path,
    fresh: bool,
    source: str,
    folder: Path | None = None,
    foresee: Callable[[Job], dict[str, Any]] | None = None,
) -> Path:
    """Run `job` to its end and return its run folder.

    Args:
        job: Checked.
        runs: Where run folders are.
        fresh: Start over even where an unfinished run of this job could go on.
        source: The job file's name, for messages.
        folder: The run folder itself, in place of one in `runs`.
        foresee: Plans a run, for its `plan.json`.

    Raises:
        TemperError: With the message and exit code of whatever stopped it.
    """
    nodes = NodeSet.here()
    for run in job.stages if isinstance(job, Pipeline) else (job,):
        _check_processes(run, source, nodes)
    if isinstance(job, Pipeline) and nodes.own_storage:
        raise RunError(
            f"a job with stages needs a run folder that all nodes share, and these {nodes.count} "
            f"have one each: a stage could not start from the model before it. Mount a shared file "
            f"system (FSx for Lustre), run on one node, or submit the stages one by one"
        )
    if nodes.own_storage and any(
        wants_rank(run) for run in (job.stages if isinstance(job, Pipeline) else (job,))
    ):
        raise RunError(
            "adapter.r: auto needs a run folder that all nodes share. Find the rank on one node, "
            "and write it into the job"
        )
    if folder is None:
        taken = find_or_create(job, runs / job.name, fresh)
        point_latest(taken.path)
    else:
        taken = acquire(job, folder, nodes)
        if taken.state == "finished":
            say(f"{folder}: already done")
            return folder
    say(f"run folder: {taken.path}")
    publisher = BackgroundPublisher(runs if folder is None else folder)
    team = NodeSupervisor(nodes, publisher, foresee)
    try:
        with (
            team.holding(taken),
            team.saying_how_it_ends(taken),
            handing_signals_on() as workers,
        ):
            if isinstance(job, Pipeline):
                _run_stages(job, taken, workers, team)
            else:
                _run_one(job, taken, workers, team)
    finally:
        publisher.close()
    return taken.path


@dataclass(frozen=True)
class NodeSupervisor:
    """What this node does for the run beside training: keep its folder, report on it."""

    nodes: NodeSet
    publisher: BackgroundPublisher
    foresee: Callable[[Job], dict[str, Any]] | None = None

    @contextmanager
    def holding(self, folder: RunFolder) -> Iterator[None]:
        """Mark the folder as being worked in, where this node keeps it."""
        with hold(folder.path) if self.nodes.keeps_folder else nullcontext():
            yield

    @contextmanager
    def saying_how_it_ends(self, folder: RunFolder) -> Iterator[None]:
        """Write into the folder how its run ends, and then its report."""
        if not self.nodes.keeps_folder:
            yield
            return
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
            if self.nodes.is_first:
                self.publisher.ended(folder.path)

    def take_up(self, path: Path, job: Job | Pipeline) -> RunFolder:
        """Make a run's folder ready to be trained in; another node may do it for all."""
        folder = RunFolder(path)
        if self.nodes.keeps_folder:
            refuse_if_alive(path)
            folder.failure.unlink(missing_ok=True)
            return RunFolder.create(path, job)
        folder.logs.mkdir(parents=True, exist_ok=True)
        return folder

    def begun(self, folder: RunFolder, job: Job) -> None:
        """Follow a run that has begun, and plan it while its worker loads libraries."""
        if not self.nodes.is_first:
            return
        if job.tracking.mlflow:
            self.publisher.follow(folder.path)
        if self.foresee is not None:
            predicted = write_predicted(folder.path, partial(self.foresee, job))
            if line := prediction_line(predicted):
                say(line)

    def log_of(self, folder: RunFolder) -> Path:
        """Return where this node's processes write what is not said to people."""
        return folder.logs / (f"worker-{self.nodes.rank}.log" if self.nodes.rank else "worker.log")


def _run_stages(
    job: Pipeline, folder: RunFolder, workers: WorkerProcesses, team: NodeSupervisor
) -> None:
    past = StageContext(job.name)
    for number, stage in enumerate(job.stages, start=1):
        path = folder.path / "stages" / f"{number:02d}-{stage.name}"
        run = Job.model_validate(past.document(stage))
        stage_folder = RunFolder(path)
        if stage_folder.state == "finished":
            say(f"stage {number}/{len(job.stages)} {stage.name}: already done")
        else:
            say(f"stage {number}/{len(job.stages)} {stage.name}")
            stage_folder = team.take_up(path, run)
            with team.saying_how_it_ends(stage_folder):
                _run_one(run, stage_folder, workers, team)
        past.add(stage.name, run, stage_folder)
    if past.trained is not None and team.nodes.keeps_folder:
        link = folder.model
        link.unlink(missing_ok=True)
        link.symlink_to(past.trained.relative_to(folder.path))


@dataclass
class StageContext:
    """The stages of a pipeline that are done.

    Attributes:
        pipeline: Its name.
        trained: The newest model that one of them trained.
        model: What the next stage starts from, as a job's section.
        places: Of each stage: its model, or its rows.
    """

    pipeline: str
    trained: Path | None = None
    model: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def document(self, stage: Stage) -> dict[str, object]:
        """Return a stage as a job of its own."""
        document: dict[str, Any] = stage.model_dump(mode="json", exclude_none=True)
        if stage.train.max_steps is not None:
            del document["train"]["num_train_epochs"]
        document["name"] = f"{self.pipeline}-{stage.name}"[:63].rstrip("-")
        if stage.model.source == PREVIOUS:
            given = stage.model.model_fields_set - {"source"}
            inherited = {k: v for k, v in self.model.items() if k not in given}
            document["model"] |= inherited
        resolve_references(stage, document, self.places.__getitem__)
        return document

    def add(self, name: str, run: Job, folder: RunFolder) -> None:
        """Note a stage that is done."""
        if run.method.trains:
            self.trained = folder.model
            self.model = {"source": str(folder.model)}
            self.places[name] = str(folder.model)
        else:
            # It has changed no model: the next starts where it did, read as it was read.
            self.model = run.model.model_dump(mode="json", exclude_unset=True)
            self.places[name] = str(folder.path / ROWS)


def _run_one(job: Job, folder: RunFolder, workers: WorkerProcesses, team: NodeSupervisor) -> None:
    """Run one job to its end, its rank found first where it asks for that."""
    if wants_rank(job):

        def trial(run: Job, path: Path) -> None:
            say(f"trying {path.name}")
            tried = team.take_up(path, run)
            with team.saying_how_it_ends(tried):
                _run_worker(run, tried, workers, team)

        find_rank(job, folder, trial)
    _run_worker(job, folder, workers, team)


def _run_worker(
    job: Job, folder: RunFolder, workers: WorkerProcesses, team: NodeSupervisor
) -> None:
    """Start this node's worker processes of one run and wait for them.

    Raises:
        TemperError: What they left word of.
    """
    processes = job.resources.processes or max(1, num_accelerators())
    if not job.method.trains:
        processes = 1
    command = [sys.executable, "-m", "training.worker", str(folder.path)]
    several = processes > 1 or team.nodes.count > 1
    if several or job.sharding.zero or job.sharding.fsdp != "none":
        command = [
            *(sys.executable, "-m", "torch.distributed.run", *team.nodes.rendezvous()),
            *("--nproc-per-node", str(processes), "--shutdown-timeout", str(SAVE_BUDGET_S)),
            *("-m", "training.worker", str(folder.path)),
        ]
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, num_cores() // processes)))
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not num_accelerators():
        # Named, DeepSpeed need not look for one, nor warn on the terminal that it found none.
        environment.setdefault("DS_ACCELERATOR", "cpu")
    log = team.log_of(folder)

    with log.open("ab") as stderr:
        begins = stderr.tell()
        begun = partial(team.begun, folder, job)
        code = workers.run(command, begun, stderr=stderr, env=environment)
    if code == 0:
        return
    error = folder.read_failure()
    if error is not None and not isinstance(error, CrashError):
        raise error
    if workers.told is not None:
        # The signal came before the worker could listen for it: nothing had been done yet.
        raise Interrupted(f"stopped by {workers.told.name}; the same command goes on")
    restore_terminal()
    if folder.is_full:
        raise RunError(folder.explain_full())
    said = log.read_bytes()[begins:].decode(errors="replace")
    raise CrashError(diagnose_exit(code, said, str(error) if error else "", log))


_KILLED = re.compile(r"exitcode\s*: -9\b")
"""How torchrun's summary tells of a process that was killed."""


def diagnose_exit(code: int, said: str, last_words: str, log: Path) -> str:
    """Return why the processes of this node ended, when none of them could explain it.

    Args:
        code: Exit code of the worker, or of torchrun.
        said: What they wrote on standard error.
        last_words: What one of them left, which may only be that another was gone.
        log: Where `said` stands.
    """
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL) or _KILLED.search(said):
        return (
            "the training process was killed, most likely for memory. Lower "
            "train.micro_batch_size or data.max_length, or set train.gradient_checkpointing: true. "
            "The same command goes on from the last checkpoint"
        )
    if last_words:
        return last_words
    tail = [line for line in said.splitlines() if line.strip()][-3:]
    return f"the training process ended with code {code}. The log {log} ends: {' / '.join(tail)}"


def _check_processes(job: Job, source: str, nodes: NodeSet) -> None:
    wanted, devices, cores = job.resources.processes, num_accelerators(), num_cores()
    room, what = (devices, "accelerators") if devices else (cores, "cores")
    problems = []
    if not job.method.trains:
        if nodes.count > 1 or (wanted or 1) > 1:
            several = f"{nodes.count} nodes × {wanted or 1} processes"
            problem = "writes its rows in one process on one machine"
            raise JobError(source, [Problem("resources", f"{job.method.kind} {problem}", several)])
        return
    if wanted is not None and wanted > room:
        problems.append(
            Problem(
                "resources.processes",
                f"this machine has {room} {what}",
                str(wanted),
                f"Set it to {room} or less",
            )
        )
    everywhere = nodes.count * (wanted or max(1, devices))
    micro = job.train.micro_batch_size
    if job.train.global_batch_size % (everywhere * (micro or 1)):
        each = f", of {micro} rows at once (train.micro_batch_size)" if micro else ""
        problems.append(
            Problem(
                "train.global_batch_size",
                f"must be a multiple of the {everywhere} processes "
                f"({nodes.count} nodes × {everywhere // nodes.count}){each}",
                str(job.train.global_batch_size),
                f"Set it to a multiple of {everywhere * (micro or 1)}",
            )
        )
    if problems:
        raise JobError(source, problems)
