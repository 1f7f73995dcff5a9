"""Preparation of a data set: its passes in order, and the folder that they build.

The folder is built under another name and renamed at the end, so that a folder of its name is
always complete.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from preparation.executors.local import WORKERS_LOCK, LocalTasks
from preparation.executors.nodes import ALONE, Barrier, Node
from preparation.executors.task_runner import RunnerFactory, completed
from preparation.leftovers import RUN_LOCK
from preparation.plan import PreparationPlan
from preparation.storage import is_finished, is_s3, open_folder, point_latest, publish
from preparation.work_units import check_files
from training.errors import RunError, TemperError

PLAN_FILE = "plan.json"
Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with the name of a pass, the number of finished units, and of all."""


def build(
    planned: PreparationPlan,
    progress: Progress,
    *,
    node: Node = ALONE,
    fresh: bool = False,
    runner: RunnerFactory = LocalTasks,
) -> str:
    """Build the folder of a preparation, or resume one that was stopped.

    Args:
        planned: The preparation.
        progress: Called with the finished and all tasks of each pass.
        node: Place of this process among those that share the preparation.
        fresh: Discard what an earlier run has built.
        runner: Makes what runs the tasks.

    Returns:
        The finished folder.

    Raises:
        TemperError: A source cannot be used, or another process or node stands in the way.
        RunError: The folder cannot be written.
    """
    if is_finished(planned.folder) and not fresh:
        if node.index == 0:
            point_latest(planned.folder)
        return planned.folder
    folder = open_folder(planned.building)
    barrier = Barrier(node, folder)
    from preparation.report.files import write_report_files

    try:
        with _locked(planned.building, node, fresh):
            _run_passes(planned, folder, progress, node, runner)
            check_files(planned.units)
            barrier.gather()
            if node.index == 0:
                write_report_files(planned, folder)
                publish(planned.building, planned.folder)
                point_latest(planned.folder)
        barrier.wait(partial(is_finished, planned.folder))
    except TemperError as error:
        barrier.fail(error)
        raise
    except OSError as error:
        barrier.fail(error)
        raise RunError(
            f"{planned.building}: {error.strerror or error}. The same command resumes the "
            "preparation"
        ) from None
    return planned.folder


@contextmanager
def _locked(building: str, node: Node, fresh: bool) -> Iterator[None]:
    """Hold the lock of a preparation, after the workers of an earlier run have ended.

    Several nodes are started together by a scheduler, which does not run the same job twice; and
    S3 has no locks.

    Raises:
        RunError: Another process holds it.
    """
    if is_s3(building) or node.count > 1:
        if fresh:
            raise RunError("--fresh needs one node and a folder on a disk; delete the folder")
        yield
        return
    path = Path(building)
    path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path / RUN_LOCK, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise RunError(f"{building}: another process is running this preparation") from None
    try:
        workers = os.open(path / WORKERS_LOCK, os.O_RDWR | os.O_CREAT)
        fcntl.flock(workers, fcntl.LOCK_EX)
        os.close(workers)
        for child in path.iterdir() if fresh else ():
            if child.is_dir():
                shutil.rmtree(child)
        yield
    finally:
        os.close(descriptor)


def _run_passes(
    planned: PreparationPlan, folder: Any, progress: Progress, node: Node, runner: RunnerFactory
) -> None:
    """Run the passes in order; each waits for all tasks of the one before, on all nodes.

    Args:
        planned: The preparation.
        folder: datatrove's `DataFolder` in which it is built.
        progress: Called with the finished and all tasks of each pass.
        node: Place of this process among those that share the preparation.
        runner: Makes what runs the tasks.
    """
    from preparation.passes.sequence import passes
    from preparation.row_checks import check_rows, check_splits

    # The lock that `_locked` waits for; its folder may not exist yet where several nodes take none.
    unlocked = is_s3(planned.building) or node.count > 1
    lock = None if unlocked else Path(planned.building).resolve()
    barrier = Barrier(node, folder)
    if node.index == 0:
        # `temper status` reads it, here and in S3, to say how far the preparation is.
        plan = {"passes": [(name, tasks) for name, _, tasks in passes(planned, folder)]}
        with folder.open(PLAN_FILE, "wb") as stream:
            stream.write(json.dumps(plan).encode())
    with runner(planned.job.prepare.workers, len(planned.units), lock) as tasks_runner:
        for name, pipeline, tasks in passes(planned, folder):
            logs = open_folder(f"{planned.building}/tasks/{name}")
            tasks_runner.run(pipeline, tasks, node.tasks(tasks), logs, partial(progress, name))
            barrier.wait(partial(_is_over, planned, logs, tasks))
            if node.index and is_finished(planned.folder):
                return  # The first node has published the result, and removed all marks.
            if name == "examine":
                check_rows(planned, folder)
            elif name == "write":
                check_splits(planned, folder)


def _is_over(planned: PreparationPlan, logs: Any, tasks: int) -> bool:
    return len(completed(logs)) >= tasks or is_finished(planned.folder)
