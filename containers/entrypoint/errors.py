"""Errors that end a container before or around training, and the exit codes they carry."""

from __future__ import annotations

from collections.abc import Mapping

from catalog.exit_codes import JOB_INVALID, RUN_FAILED


class StartError(Exception):
    """Error that the log and the failure file explain without a traceback.

    Args:
        message: What is wrong, the value, and the fix.
        exit_code: Exit code of the container.
    """

    def __init__(self, message: str, exit_code: int = RUN_FAILED):
        super().__init__(message)
        self.exit_code = exit_code


def read_number(environment: Mapping[str, str], name: str, default: float) -> float:
    """Return the number in an environment variable.

    Args:
        environment: Environment variables of this process.
        name: Name of the variable.
        default: Value to return when the variable is unset or empty.

    Raises:
        StartError: The variable does not hold a number.
    """
    text = environment.get(name) or str(default)
    try:
        return float(text)
    except ValueError:
        raise StartError(f"{name} must be a number, and is {text!r}", JOB_INVALID) from None
