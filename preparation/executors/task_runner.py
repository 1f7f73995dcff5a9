"""Interface of what runs the tasks of a pass: processes of this machine, or a Ray cluster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeAlias

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of finished tasks and of all tasks."""


class TaskRunner(ABC):
    """Context in which the tasks of several passes run, one pass after another."""

    @abstractmethod
    def __enter__(self) -> Self:
        """Return the runner, ready for tasks."""

    @abstractmethod
    def __exit__(self, *_: object) -> None:
        """End the processes that run tasks."""

    def run(
        self, pipeline: Any, tasks: int, mine: range, logging_dir: Any, progress: Progress
    ) -> None:
        """Run the tasks of a pass that are not completed.

        Args:
            pipeline: datatrove's steps.
            tasks: Number of all tasks.
            mine: Tasks of this node.
            logging_dir: datatrove's `DataFolder` of logs and of the marks of completed tasks.
            progress: Called with the number of completed tasks and of all.

        Raises:
            CrashError: A worker died.
        """
        finished = completed(logging_dir)
        ranks = [rank for rank in mine if rank not in finished]
        done = tasks - len(ranks)
        progress(done, tasks)
        settings = {"tasks": tasks, "workers": 1, "logging_dir": logging_dir}
        for _ in self.run_ranks(pipeline, settings, ranks) if ranks else ():
            done += 1
            progress(done, tasks)

    @abstractmethod
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


RunnerFactory: TypeAlias = Callable[[int | None, int, Path | None], TaskRunner]
"""Called with `prepare.workers`, the most tasks of a pass, and the folder of the workers' lock."""


def completed(logging_dir: Any) -> set[int]:
    """Return the tasks of a pass that are completed, on any node."""
    marks = logging_dir.list_files("completions") if logging_dir.exists("completions") else ()
    return {int(mark.rpartition("/")[2]) for mark in marks}
