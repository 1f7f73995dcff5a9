"""Processes that end with this one, even if it is killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# The kernel sends the signal when the thread that started the process ends: one that stays does it.
_STARTER = ThreadPoolExecutor(1, thread_name_prefix="child-process-starter")
_BOUND = ("setpriv", "--pdeathsig", "KILL") if sys.platform == "linux" else ()


def start_child(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a process that the kernel kills when this one ends.

    Args:
        command: Its command line.
        options: Options of `subprocess.Popen`.
    """
    return _STARTER.submit(lambda: subprocess.Popen([*_BOUND, *command], **options)).result()
