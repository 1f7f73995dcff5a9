"""A signal that the kernel sends to a process when its parent dies, even by SIGKILL."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1


def signal_on_parent_death(number: signal.Signals) -> None:
    """Ask the kernel to send a signal to this process when its parent dies (Linux, prctl(2)).

    A parent that died before the call is not noticed: compare `os.getppid()` afterwards.

    Args:
        number: The signal.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
