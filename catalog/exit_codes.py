"""Exit codes of every command, shared by training and by the first process of a container.

A module without third-party imports: the container's entry point reads it before anything else is
loaded.
"""

from __future__ import annotations

JOB_INVALID = 2
"""The job file, one of its overrides, or a file that it names is wrong."""
DATA_INVALID = 3
"""The data cannot be read, or contains nothing to learn from."""
RUN_FAILED = 4
"""The run failed, or the machine or the target cannot execute it."""
STOPPED = 75
"""The run was stopped by a signal and saved a checkpoint (`EX_TEMPFAIL` of sysexits.h)."""
SAFETY_GATE = 5
"""A result does not meet a limit: answers of a red team, bias, vulnerabilities of an image."""
