"""Supervisor of a job: starts its worker processes, stage by stage, and reports how they end.

It never imports torch. It checks the job, finds a run to resume, starts one worker (or torchrun
with several), forwards signals, and turns every outcome into one message and an exit code.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
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
from training.errors import CrashError, Interrupted, RunError, TemperError
from training.exit_diagnosis import diagnose_exit
from training.job_processes import check_processes, num_processes
from training.lora_rank_search import find_rank, wants_rank
from training.nodes import NodeSet
from training.processes import WorkerProcesses, forwarding_signals, num_accelerators, num_cores
from training.report.plan_vs_actual import prediction_line, write_predicted
from training.resume import acquire, find_or_create, refuse_if_alive
from training.run_folder import RunFolder, hold, point_latest
from training.tracking.background_publisher import BackgroundPublisher
from training.tracking.progress_display import restore_terminal

logger = logging.getLogger(__name__)

SAVE_BUDGET_S = 90
"""Time that a stopped run has to save a checkpoint before it is killed."""


def supervise(
    job: Job | Pipeline,
    *,
    runs: Path,
    fresh: bool,
    source: str,
    folder: Path | None = None,
    plan: Callable[[Job], dict[str, Any]] | None = None,
) -> Path:
    """Run `job` to its end and return its run folder.

    Args:
        job: The checked job.
        runs: Folder of all run folders.
        fresh: Start a new run even if an unfinished run of this job could be resumed.
        source: Name of the job file, for messages.
        folder: The run folder itself, in place of one in `runs`.
        plan: Function that plans a run, for its `plan.json`.

    Raises:
        RunError: The job needs a run folder that all nodes share, and they have none.
        TemperError: The run failed or was stopped; it has the message and the exit code.
    """
    nodes = NodeSet.here()
    for run in job.stages if isinstance(job, Pipeline) else (job,):
        check_processes(run, source, nodes)
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
        run_folder = find_or_create(job, runs / job.name, fresh)
        point_latest(run_folder.path)
    else:
        run_folder = acquire(job, folder, nodes)
        if run_folder.state == "finished":
            say(f"{folder}: already done")
            return folder
    say(f"run folder: {run_folder.path}")
    publisher = BackgroundPublisher(runs if folder is None else folder)
    supervisor = NodeSupervisor(nodes, publisher, plan)
    # The outermost: a signal while the outcome is written must not end a run that has finished.
    with forwarding_signals() as workers:
        try:
            with supervisor.locked(run_folder), supervisor.recording_outcome(run_folder):
                if isinstance(job, Pipeline):
                    _run_stages(job, run_folder, workers, supervisor)
                else:
                    _run_one(job, run_folder, workers, supervisor)
        finally:
            publisher.close()
    return run_folder.path


@dataclass(frozen=True)
class NodeSupervisor:
    """Tasks of one node in addition to training: keeping the run folder and reporting.

    Attributes:
        nodes: Nodes of the run, seen from this one.
        publisher: Publisher of reports and metrics during the run.
        plan: Function that plans a run; None for no plan.
    """

    nodes: NodeSet
    publisher: BackgroundPublisher
    plan: Callable[[Job], dict[str, Any]] | None = None

    @contextmanager
    def locked(self, folder: RunFolder) -> Iterator[None]:
        """Hold the lock of the run folder, if this node keeps it."""
        with hold(folder.path) if self.nodes.keeps_folder else nullcontext():
            yield

    @contextmanager
    def recording_outcome(self, folder: RunFolder) -> Iterator[None]:
        """Write the final state of the run into its folder, then publish its report.

        Raises:
            Interrupted: The run was stopped.
            TemperError: The run failed.
        """
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

    def prepare_folder(self, path: Path, job: Job | Pipeline) -> RunFolder:
        """Return the run folder, ready for training; in a shared one, the first node writes."""
        folder = RunFolder(path)
        if self.nodes.keeps_folder:
            refuse_if_alive(path)
            folder.failure.unlink(missing_ok=True)
            return RunFolder.create(path, job)
        folder.logs.mkdir(parents=True, exist_ok=True)
        return folder

    def on_started(self, folder: RunFolder, job: Job) -> None:
        """Mirror a started run to MLflow, and plan it while its worker loads libraries."""
        if not self.nodes.is_first:
            return
        if job.tracking.mlflow:
            self.publisher.follow(folder.path)
        if self.plan is not None:
            predicted = write_predicted(folder.path, partial(self.plan, job))
            if line := prediction_line(predicted):
                say(line)

    def log_of(self, folder: RunFolder) -> Path:
        """Return the log file of this node's processes."""
        return folder.logs / (f"worker-{self.nodes.rank}.log" if self.nodes.rank else "worker.log")


def _run_stages(
    job: Pipeline, folder: RunFolder, workers: WorkerProcesses, supervisor: NodeSupervisor
) -> None:
    context = StageContext(job.name)
    for number, stage in enumerate(job.stages, start=1):
        path = folder.path / "stages" / f"{number:02d}-{stage.name}"
        run = Job.model_validate(context.document(stage))
        stage_folder = RunFolder(path)
        if stage_folder.state == "finished":
            say(f"stage {number}/{len(job.stages)} {stage.name}: already done")
        else:
            say(f"stage {number}/{len(job.stages)} {stage.name}")
            stage_folder = supervisor.prepare_folder(path, run)
            with supervisor.recording_outcome(stage_folder):
                _run_one(run, stage_folder, workers, supervisor)
        context.add(stage.name, run, stage_folder)
    if context.trained is not None and supervisor.nodes.keeps_folder:
        link = folder.model
        link.unlink(missing_ok=True)
        link.symlink_to(context.trained.relative_to(folder.path))


@dataclass
class StageContext:
    """Results of the finished stages of a pipeline.

    Attributes:
        pipeline: Name of the pipeline.
        trained: Newest trained model.
        model: Section `model` that the next stage starts from.
        places: Path of the model or the rows of each stage.
    """

    pipeline: str
    trained: Path | None = None
    model: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def document(self, stage: Stage) -> dict[str, object]:
        """Return a stage as the document of a separate job."""
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
        """Add the result of a finished stage.

        Args:
            name: Name of the stage.
            run: Job of the stage.
            folder: Run folder of the stage.
        """
        if run.method.trains:
            self.trained = folder.model
            self.model = {"source": str(folder.model)}
            self.places[name] = str(folder.model)
        else:
            # The stage did not change the model: the next one starts from the same model, loaded
            # with the same settings.
            self.model = run.model.model_dump(mode="json", exclude_unset=True)
            self.places[name] = str(folder.path / ROWS)


def _run_one(
    job: Job, folder: RunFolder, workers: WorkerProcesses, supervisor: NodeSupervisor
) -> None:
    """Run one job to its end, after the search for its rank if it has one."""
    if wants_rank(job):

        def trial(run: Job, path: Path) -> None:
            say(f"trying {path.name}")
            trial_folder = supervisor.prepare_folder(path, run)
            with supervisor.recording_outcome(trial_folder):
                _run_worker(run, trial_folder, workers, supervisor)

        find_rank(job, folder, trial)
    _run_worker(job, folder, workers, supervisor)
    if supervisor.nodes.is_first:
        for arguments in _final_commands(job, str(folder.path)):
            command = [sys.executable, "-m", *arguments]
            _run_command(command, folder, workers, supervisor, num_cores(), lambda: None, {})


def _run_worker(
    job: Job, folder: RunFolder, workers: WorkerProcesses, supervisor: NodeSupervisor
) -> None:
    """Start this node's worker processes of one run and wait for them."""
    processes = num_processes(job)
    command = [sys.executable, "-m", "training.worker", str(folder.path)]
    several = processes > 1 or supervisor.nodes.count > 1
    if several or job.sharding.zero or job.sharding.fsdp != "none":
        command = [
            *(sys.executable, "-m", "torch.distributed.run", *supervisor.nodes.rendezvous()),
            *("--nproc-per-node", str(processes), "--shutdown-timeout", str(SAVE_BUDGET_S)),
            *("-m", "training.worker", str(folder.path)),
        ]
    threads = max(1, num_cores() // processes)
    on_started = partial(supervisor.on_started, folder, job)
    variables = job.resources.environment
    _run_command(command, folder, workers, supervisor, threads, on_started, variables)


def _final_commands(job: Job, folder: str) -> Iterator[list[str]]:
    """Yield the commands that follow the training of a job, each a process of its own.

    Training has released its memory then. `safety` and `evaluation` are built upon `training`,
    which does not import them. Each ends the run with its error if a limit or a gate is not
    passed; the model is kept.

    Args:
        job: The job.
        folder: Run folder.
    """
    if job.export in ("merged", "both") or job.export_formats:
        yield ["training.worker", folder, "export"]
    if job.evaluate.safety is not None:
        yield ["safety", folder]
    if job.evaluate.suite:
        yield ["evaluation", "run", folder]


def _run_command(
    command: list[str],
    folder: RunFolder,
    workers: WorkerProcesses,
    supervisor: NodeSupervisor,
    threads: int,
    on_started: Callable[[], None],
    variables: Mapping[str, str],
) -> None:
    """Run a command of this node's worker to its end.

    Raises:
        Interrupted: The run was stopped.
        RunError: The disk is full.
        CrashError: A process died without an explanation.
        TemperError: The error that a worker wrote.
    """
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not num_accelerators():
        # Without this, DeepSpeed probes for an accelerator and warns that there is none.
        environment.setdefault("DS_ACCELERATOR", "cpu")
    environment |= variables
    log = supervisor.log_of(folder)
    with log.open("ab") as stderr:
        start = stderr.tell()
        code = workers.run(command, on_started, stderr=stderr, env=environment)
    if code == 0:
        return
    error = folder.read_failure()
    if error is not None and not isinstance(error, CrashError):
        raise error
    if workers.received is not None:
        # The signal came before the worker had a handler for it: nothing was lost.
        raise Interrupted(f"stopped by {workers.received.name}; the same command resumes")
    restore_terminal()
    if folder.is_full:
        raise RunError(folder.explain_full())
    output = log.read_bytes()[start:].decode(errors="replace")
    raise CrashError(diagnose_exit(code, output, str(error) if error else "", log))
