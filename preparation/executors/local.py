"""Execution of a pass on this machine, by several processes."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import fcntl
import io
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pyarrow as pa
from datatrove.executor import LocalPipelineExecutor
from loguru import logger

from preparation.executors.task_runner import TaskRunner
from training.environment_variables import environment_variables
from training.errors import CrashError
from training.parent_death import signal_on_parent_death

WORKERS_LOCK = "workers.lock"
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""Environment of workers. There is one worker per core, so that more threads of the libraries under
NumPy would wait for each other. They read it when they are loaded, before a worker's first line."""


class LocalTasks(TaskRunner):
    """Processes that run the tasks of several passes, one pass after another.

    A `multiprocessing.Pool`, which datatrove's own executor uses, waits forever for the task of a
    worker that was killed, for instance when memory runs out.

    Args:
        workers: Number of processes; one per core if None.
        most: Most tasks of any pass that can run at the same time.
        lock: Folder with the lock that workers hold while they live; None if it has no locks.
    """

    def __init__(self, workers: int | None, most: int, lock: Path | None):
        self._workers = min(workers or len(os.sched_getaffinity(0)), most)
        self._lock = lock
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> LocalTasks:
        """Return the processes, which start with the first task."""
        logger.remove()
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def run_ranks(
        self, pipeline: Any, settings: dict[str, Any], ranks: list[int]
    ) -> Iterator[object]:
        """Run tasks of a pass, and yield once for each that is completed.

        Args:
            pipeline: datatrove's steps.
            settings: Settings of datatrove's executor.
            ranks: Numbers of the tasks.

        Raises:
            CrashError: A worker died.
        """
        if self._workers == 1 or len(ranks) == 1:
            for rank in ranks:
                run_task(pipeline, settings, rank)
                yield rank
            return
        if self._pool is None:
            self._pool = _pool(self._workers, self._lock)
        try:
            with environment_variables(ONE_THREAD):  # `submit` starts the workers.
                running = [self._pool.submit(run_task, pipeline, settings, rank) for rank in ranks]
            for future in as_completed(running):
                yield future.result()
        except BrokenProcessPool:
            raise CrashError(
                "a worker died without a message, most often because memory ran out. The same "
                "command resumes with the units that are left; fewer prepare.workers or a smaller "
                "prepare.unit_mib need less memory"
            ) from None


def _pool(workers: int, lock: Path | None) -> ProcessPoolExecutor:
    # With spawn, this process is the parent of its workers, whose end is bound to its own.
    return ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(lock, os.getpid()),
    )


def _start_worker(lock: Path | None, parent: int) -> None:
    """End with the parent, and hold the lock that a later run of the same preparation waits for."""
    signal_on_parent_death(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hold_lock(lock)


def hold_lock(folder: Path | None) -> None:
    """Hold the lock of workers until this process ends; a folder of None has no locks."""
    if folder is not None:
        descriptor = os.open(folder / WORKERS_LOCK, os.O_RDWR | os.O_CREAT)
        fcntl.flock(descriptor, fcntl.LOCK_SH)


class _NoOutput(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


def run_task(pipeline: Any, settings: dict[str, Any], rank: int) -> None:
    """Run one task; datatrove's messages go to its log file alone.

    Args:
        pipeline: datatrove's steps.
        settings: Settings of datatrove's executor.
        rank: Number of the task.
    """
    executor = LocalPipelineExecutor(copy.deepcopy(pipeline), **settings)
    with contextlib.redirect_stderr(_NoOutput()):
        executor._run_for_rank(rank)
    return_free_memory()


def return_free_memory() -> None:
    """Return freed memory to the operating system.

    A process runs many tasks. Allocators keep what a task has freed in pieces that the next task
    cannot always use, so that the memory of a process would grow with the number of its tasks.
    """
    pa.default_memory_pool().release_unused()
    with contextlib.suppress(AttributeError, OSError):  # not with another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
