"""Reason why the processes of a node ended, if none of them could write it."""

from __future__ import annotations

import re
import signal
from pathlib import Path

_KILLED = re.compile(r"exitcode\s*: -9\b")
"""Line of torchrun's summary for a process that was killed by SIGKILL."""


def diagnose_exit(code: int, output: str, failure: str, log: Path) -> str:
    """Return why the processes of this node ended, if none of them could write the reason.

    Args:
        code: Exit code of the worker, or of torchrun.
        output: Text that they wrote to standard error.
        failure: Failure that one of them wrote, which may only be that a peer was gone.
        log: File with `output`.
    """
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL) or _KILLED.search(output):
        return (
            "the training process was killed, most likely for memory. Lower "
            "train.micro_batch_size or data.max_length, or set train.gradient_checkpointing: true. "
            "The same command resumes from the last checkpoint"
        )
    if failure:
        return failure
    tail = [line for line in output.splitlines() if line.strip()][-3:]
    return f"the training process ended with code {code}. The log {log} ends: {' / '.join(tail)}"
