"""Execution of a pass by a Ray cluster, one Ray task per task of the pass.

datatrove's `RayPipelineExecutor` runs each task in a `multiprocessing.Pool` of an actor, which
waits forever for a process that was killed and leaves it alive when the actor dies, and it ends
without an error if a task raised one. Here a Ray task runs datatrove's task itself, in Ray's own
process.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from loguru import logger

from preparation.executors.local import hold_lock, run_task
from preparation.executors.ray_cluster import ray_cluster
from preparation.executors.task_runner import TaskRunner, completed
from preparation.plan import code_version
from training.errors import CrashError, RunError

_TRIES = 4
"""Most starts of a unit whose worker or machine dies. Ray would retry a worker that ran out of
memory forever, and says nothing of it."""
_VISIBLE_S = 60.0
"""Longest time in which a file that another machine wrote appears here."""


@dataclass(frozen=True)
class WorkerSettings:
    """Settings that a worker on any machine takes over from this process.

    Attributes:
        folder: Working directory.
        code: Version of the code.
        variables: Environment variables that steps read, such as the key of surrogates.
        lock: Folder with the lock that workers hold while they live; None if it has no locks.
    """

    folder: str
    code: str
    variables: Mapping[str, str]
    lock: Path | None


class RayTasks(TaskRunner):
    """Ray cluster that runs the tasks of several passes, one pass after another.

    Args:
        workers: Most tasks that run at the same time; the cluster's CPUs if None.
        most: Most tasks of any pass that can run at the same time.
        lock: Folder with the lock that workers hold while they live; None if it has no locks.
        variables: Names of environment variables that steps read.
        say: Prints a line about the cluster.
    """

    def __init__(
        self,
        workers: int | None,
        most: int,
        lock: Path | None,
        *,
        variables: tuple[str, ...] = (),
        say: Callable[[str], None] = lambda line: None,
    ):
        self._workers = workers
        self._most = most
        self._say = say
        values = {name: os.environ[name] for name in variables if name in os.environ}
        self._settings = WorkerSettings(str(Path.cwd()), code_version(), values, lock)
        self._context = contextlib.ExitStack()
        self._ray: Any = None

    def __enter__(self) -> RayTasks:
        """Return the connected cluster."""
        logger.remove()
        cpus = min(self._workers or len(os.sched_getaffinity(0)), self._most)
        self._ray = self._context.enter_context(ray_cluster(cpus))
        machines = sum(node["Alive"] for node in self._ray.nodes())
        total = self._ray.cluster_resources().get("CPU", 0)
        self._say(
            f"Ray cluster: {machines} machine{'s' if machines != 1 else ''}, "
            f"{total:.0f} CPU{'s' if total != 1 else ''}"
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the cluster, which ends the workers; stop it if it was started for this."""
        self._context.close()

    def run_ranks(
        self, pipeline: Any, settings: dict[str, Any], ranks: list[int]
    ) -> Iterator[object]:
        """Run tasks of a pass, and yield once for each that is completed.

        Args:
            pipeline: datatrove's steps.
            settings: Settings of datatrove's executor.
            ranks: Numbers of the tasks.
        """
        shared = self._ray.put((self._settings, pipeline, settings))
        yield from self._completed_ranks(shared, ranks)
        self._check_visible(settings["logging_dir"], ranks)

    def _completed_ranks(self, shared: Any, ranks: list[int]) -> Iterator[int]:
        """Yield the ranks as they end; begin those again whose worker or machine died.

        Raises:
            CrashError: The workers of a rank died again and again.
        """
        # One try each: this process counts them, and says why there is another.
        begin = self._ray.remote(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")(_run_rank)
        waiting = list(reversed(ranks))
        running: dict[Any, int] = {}
        tries = Counter[int]()
        while waiting or running:
            while waiting and len(running) < (self._workers or len(ranks)):
                rank = waiting.pop()
                tries[rank] += 1
                running[begin.remote(shared, rank)] = rank
            (reference, *_), _ = self._ray.wait(list(running), num_returns=1)
            rank = running.pop(reference)
            death = self._result(reference)
            if not death:
                yield rank
            elif tries[rank] < _TRIES:
                self._say(f"task {rank}: {death}; beginning it again")
                waiting.append(rank)
            else:
                raise CrashError(
                    f"task {rank}: {death}, {_TRIES} times, most often because memory ran out. The "
                    "same command resumes with the units that are left; a smaller "
                    "prepare.unit_mib or fewer prepare.workers need less memory"
                )

    def _result(self, reference: Any) -> str:
        """Return how a worker died; nothing if its task is done.

        Raises:
            Exception: The error that the task raised.
        """
        errors = self._ray.exceptions
        try:
            self._ray.get(reference)
        except errors.RayTaskError as error:
            cause = getattr(error, "cause", None)
            raise (cause if isinstance(cause, Exception) else error) from None
        except errors.RayError as error:
            return f"its worker died ({type(error).__name__})"
        return ""

    def _check_visible(self, logging_dir: Any, ranks: list[int]) -> None:
        """Check that this process sees what the workers wrote: the folder is shared.

        Raises:
            RunError: It is not.
        """
        end = time.monotonic() + _VISIBLE_S
        while missing := set(ranks) - completed(logging_dir):
            if time.monotonic() > end:
                raise RunError(
                    f"{logging_dir.path}: the marks of {len(missing)} tasks that another machine "
                    "has completed are not here. prepare.output must be a folder that all machines "
                    "of the cluster share, or s3://BUCKET/PREFIX"
                )
            time.sleep(1)


def _run_rank(shared: tuple[WorkerSettings, Any, dict[str, Any]], rank: int) -> None:
    """Run one task, in a process of Ray on any machine."""
    settings, pipeline, work = shared
    _prepare_worker(settings.folder, settings.code, settings.lock)
    os.environ.update(settings.variables)
    run_task(pipeline, work, rank)


@lru_cache(maxsize=1)
def _prepare_worker(folder: str, code: str, lock: Path | None) -> None:
    """Make a process of Ray a worker of one preparation, once.

    Raises:
        RunError: This machine lacks the working directory, or has other code.
    """
    logger.remove()
    try:
        os.chdir(folder)
    except OSError as error:
        raise RunError(
            f"{socket.gethostname()}: {folder}: {error.strerror}. All machines of the cluster need "
            "the sources and the working directory at the same paths"
        ) from None
    if code_version() != code:
        raise RunError(
            f"{socket.gethostname()}: another version of Temper is installed there, which can "
            "write other rows. Install the same on all machines of the cluster"
        )
    hold_lock(lock)
