"""Errors of the model registry."""

from __future__ import annotations

from collections.abc import Sequence

from training.errors import TemperError


class RegistryError(TemperError):
    """A model cannot be registered, found or promoted."""


class RemoteUnavailableError(RegistryError):
    """A registry on a server cannot be reached, or failed half-way."""


class RegistrationRefused(RegistryError):  # noqa: N818 (nothing is broken)
    """A run lacks what a version needs; carries every problem.

    Args:
        run: The run as the user named it.
        problems: What is wrong, each with its fix.
        overridable: Whether a reason with `--override` would register it.
    """

    def __init__(self, run: str, problems: Sequence[str], *, overridable: bool):
        self.problems = tuple(problems)
        lines = [f"{run} is not registered:", *(f"  {problem}" for problem in problems)]
        if overridable:
            lines.append("To register it nevertheless, name a reason: --override 'REASON'")
        super().__init__("\n".join(lines))
