"""Training as a child process: signals handed to it, nothing of it left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE_S = 20.0
"""How long what reports on a run may still take after it has ended."""


class SubprocessRunner:
    """A command and all that it starts.

    Args:
        command: What to run.
        environment: All of its variables.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]):
        self._process = subprocess.Popen(command, env=dict(environment))
        self._killed_at: float | None = None

    @property
    def code(self) -> int | None:
        """The exit code as a shell gives it; None while it runs."""
        self._bury_orphans()
        found = self._process.poll()
        return found if found is None or found >= 0 else 128 - found

    def send(self, number: int) -> None:
        """Hand a signal on."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def stop_within(self, seconds: float) -> None:
        """Tell it to stop, and kill it when it has not after so many seconds; call repeatedly."""
        if self._killed_at is None:
            self._killed_at = time.monotonic() + seconds
            self.send(signal.SIGTERM)
        elif time.monotonic() > self._killed_at:
            self.kill()

    def kill(self) -> None:
        """End it, and all that it started, at once."""
        self.send(signal.SIGKILL)
        self._process.wait()
        self.clear(patience_s=0)

    def clear(self, patience_s: float = _PATIENCE_S) -> None:
        """Wait a little for what it has left running, and then end that."""
        left = [p for p in self._family() if p.pid != self._process.pid]
        _, left = psutil.wait_procs(left, timeout=patience_s)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=5)
        self._bury_orphans()

    def _family(self) -> list[psutil.Process]:
        return psutil.Process().children(recursive=True)

    def _bury_orphans(self) -> None:
        """Take note of the end of processes whose parent died before them."""
        with suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid == self._process.pid:
                    self._process.poll()
                else:
                    os.waitpid(ended.si_pid, 0)


def adopt_orphans() -> None:
    """Become the parent of processes whose own parent dies, as the first process of a machine is.

    Raises:
        OSError: The system does not know how.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
