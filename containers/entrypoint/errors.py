"""What keeps a job from starting, or from going on, outside of training itself."""

from __future__ import annotations

JOB, RUN, STOPPED = 2, 4, 75
"""Exit codes, as `python -m training` gives them: the job, the run, told to stop."""


class StartError(Exception):
    """Said to the person in the log and in the failure file, without a traceback.

    Args:
        message: What is wrong, the value, and the fix.
        exit_code: Of the container.
    """

    def __init__(self, message: str, exit_code: int = RUN):
        super().__init__(message)
        self.exit_code = exit_code
