"""What keeps a job from starting, or from going on, outside of training itself."""

from __future__ import annotations

from collections.abc import Mapping

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


def number(environment: Mapping[str, str], name: str, otherwise: float) -> float:
    """Return a number that a variable holds; `otherwise` where it is not set.

    Raises:
        StartError: It holds something else.
    """
    text = environment.get(name) or str(otherwise)
    try:
        return float(text)
    except ValueError:
        raise StartError(f"{name} must be a number, and is {text!r}", JOB) from None
