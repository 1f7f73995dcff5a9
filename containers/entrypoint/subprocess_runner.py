"""Training as a child process: forwards signals, and leaves no descendant behind."""

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
_DESCENDANT_TIMEOUT_S = 20.0
"""Time for processes that still upload metrics or logs after training has ended."""


class SubprocessRunner:
    """A running command with all of its descendants.

    Args:
        command: Command to run.
        environment: Complete environment of the command.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]):
        self._process = subprocess.Popen(command, env=dict(environment))
        self._killed_at: float | None = None

    @property
    def exit_code(self) -> int | None:
        """Exit code in the shell's convention (128 + signal); None while the command runs."""
        self._reap_orphans()
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def send(self, number: int) -> None:
        """Forward a signal to the command."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def stop_within(self, seconds: float) -> None:
        """Send SIGTERM, and SIGKILL after so many seconds. Call it repeatedly until the end."""
        if self._killed_at is None:
            self._killed_at = time.monotonic() + seconds
            self.send(signal.SIGTERM)
        elif time.monotonic() > self._killed_at:
            self.kill()

    def kill(self) -> None:
        """Kill the command and all of its descendants."""
        self.send(signal.SIGKILL)
        self._process.wait()
        self.end_descendants(timeout_s=0)

    def end_descendants(self, timeout_s: float = _DESCENDANT_TIMEOUT_S) -> None:
        """Wait for processes that the command left running, and kill those that remain."""
        left = [p for p in self._descendants() if p.pid != self._process.pid]
        _, left = psutil.wait_procs(left, timeout=timeout_s)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=5)
        self._reap_orphans()

    def _descendants(self) -> list[psutil.Process]:
        return psutil.Process().children(recursive=True)

    def _reap_orphans(self) -> None:
        """Reap adopted processes that have ended, which would otherwise stay as zombies.

        The command itself is left to `Popen`, which needs its exit status: hence WNOWAIT.
        """
        with suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid == self._process.pid:
                    self._process.poll()
                else:
                    os.waitpid(ended.si_pid, 0)


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent dies, as init is.

    Workers whose launcher was killed stay visible as children, and can be ended.

    Raises:
        OSError: The kernel does not support it.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
