"""Error of an environment file, with every problem in one message."""

from collections.abc import Sequence
from pathlib import Path


class SettingsError(Exception):
    """Error raised if an environment cannot be built from its file.

    Each problem says what is wrong, the value, and the fix.

    Args:
        file: The environment file.
        problems: One line per problem.
    """

    def __init__(self, file: Path | str, problems: Sequence[str]) -> None:
        self.file = str(file)
        self.problems = list(problems)
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        super().__init__("\n".join([f"{file}: {count}", *(f"  {problem}" for problem in problems)]))


class DeploymentError(Exception):
    """Error raised if an environment cannot be deployed or deleted as it is.

    The message says what is wrong, the value, and the fix.
    """
