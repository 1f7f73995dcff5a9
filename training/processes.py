"""Worker processes of a job: how many a machine allows, and the signals forwarded to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from catalog.local_devices import count_local
from training.errors import Interrupted


class WorkerProcesses:
    """Runner of a job's workers, one after another, that forwards signals to them.

    Attributes:
        received: Signal that told the command to stop; None if there was none.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, command: list[str], started: Callable[[], None], **options: Any) -> int:
        """Start a worker and return its exit code.

        Args:
            command: Command line of the worker.
            started: Function called once the worker runs.
            options: Options of `subprocess.Popen`.

        Raises:
            Interrupted: A signal came before the worker was started.
        """
        if self.received is not None:
            raise Interrupted(f"stopped by {self.received.name}; the same command resumes")
        self._child = subprocess.Popen(command, **options)
        if self.received is not None:
            # The signal came between the check above and the start of the worker.
            self._child.send_signal(self.received)
        started()
        code = self._child.wait()
        self._child = None
        return code

    def forward(self, number: int, frame: FrameType | None) -> None:
        """Record a signal and send it to the worker."""
        self.received = signal.Signals(number)
        child = self._child
        # A terminal sends Ctrl-C to the whole group: the worker has it already.
        if child and child.poll() is None and not (number == signal.SIGINT and sys.stdin.isatty()):
            child.send_signal(number)


@contextmanager
def forwarding_signals() -> Iterator[WorkerProcesses]:
    """Forward SIGTERM, SIGINT and SIGUSR1 to the workers without exiting on them."""
    workers = WorkerProcesses()
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.signal(number, workers.forward) for number in numbers}
    try:
        yield workers
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def num_accelerators() -> int:
    """Return the number of accelerators of this machine, without loading a driver."""
    return count_local(os.environ)
