"""The processes a job runs in: how many there is room for, and the signals they are handed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from training.errors import Interrupted


class WorkerProcesses:
    """Runs the workers of a job one after the other, and hands them the signals that come."""

    def __init__(self) -> None:
        self.told: signal.Signals | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, command: list[str], started: Callable[[], None], **options: Any) -> int:
        """Start a worker and return its exit code.

        Args:
            command: What to start.
            started: Called once it runs.
            options: For `subprocess.Popen`.

        Raises:
            Interrupted: Told to stop before it could be started.
        """
        if self.told is not None:
            raise Interrupted(f"stopped by {self.told.name}; the same command goes on")
        self._child = subprocess.Popen(command, **options)
        if self.told is not None:
            # It came while the worker was being started.
            self._child.send_signal(self.told)
        started()
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
def handing_signals_on() -> Iterator[WorkerProcesses]:
    """Hand SIGTERM, SIGINT and SIGUSR1 to the workers, and outlive them."""
    workers = WorkerProcesses()
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.signal(number, workers.hand_on) for number in numbers}
    try:
        yield workers
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
