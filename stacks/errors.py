"""What a person's mistake in an environment file becomes: one message with every problem in it."""

from collections.abc import Sequence
from pathlib import Path


class SettingsError(Exception):
    """An environment cannot be built from its file. Says what is wrong, the value, and the fix."""

    def __init__(self, file: Path | str, problems: Sequence[str]) -> None:
        self.file = str(file)
        self.problems = list(problems)
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        super().__init__("\n".join([f"{file}: {count}", *(f"  {problem}" for problem in problems)]))
