"""Errors that a user can encounter, and the exit code of the command for each.

    TemperError                     4  anything below, unless it says otherwise
    ├── JobError                    2  the job file, its overrides, or a file it names
    ├── DataError                   3  the data: unreadable, misshapen, nothing left to learn from
    ├── RunError                    4  the run could not continue
    │   ├── DeviceError             4  this machine cannot do what the job asks
    │   ├── ModelError              4  a model or tokenizer that cannot be loaded or saved
    │   ├── CheckpointError         4  a checkpoint that cannot be written or trusted
    │   ├── GuardError              4  a guard stopped a run that would have gone wrong silently
    │   └── CrashError              4  a process died, or met an unexpected error; a restart
    │                                  may succeed
    ├── SafetyGateError             5  the trained model exceeds a limit of `evaluate.safety`
    └── Interrupted                75  told to stop; the same command resumes from the checkpoint

A message says what is wrong, the value, and the fix. Errors are caught once, in
`training.__main__`, and printed without a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable

from catalog.exit_codes import DATA_INVALID, JOB_INVALID, RUN_FAILED, SAFETY_GATE, STOPPED
from validation.problem import Problem as Problem


class TemperError(Exception):
    """Base class of errors that are printed as a message, without a traceback."""

    exit_code = RUN_FAILED


class JobError(TemperError):
    """The job file cannot be used; carries every problem found in it."""

    exit_code = JOB_INVALID

    def __init__(self, source: str, problems: Iterable[Problem]):
        self.source = source
        self.problems = tuple(problems)
        count = len(self.problems)
        lines = [f"{source}: {count} problem{'s' if count != 1 else ''}"]
        lines += [f"  {problem}" for problem in self.problems]
        super().__init__("\n".join(lines))


class DataError(TemperError):
    """The data cannot be read, or nothing in it can be learned from."""

    exit_code = DATA_INVALID


class RunError(TemperError):
    """The run could not continue."""


class DeviceError(RunError):
    """This machine cannot do what the job asks."""


class ModelError(RunError):
    """A model or tokenizer cannot be loaded or saved."""


class CheckpointError(RunError):
    """A checkpoint cannot be written or trusted."""


class GuardError(RunError):
    """A guard stopped a run that would have failed silently."""


class CrashError(RunError):
    """A process died or met an unexpected error; a restart may succeed."""


class SafetyGateError(TemperError):
    """The trained model exceeds a limit of `evaluate.safety`; it is complete in its folder."""

    exit_code = SAFETY_GATE


class Interrupted(TemperError):  # noqa: N818 (not a fault: the run was told to stop)
    """The run was told to stop and saved; the same command resumes it."""

    exit_code = STOPPED
