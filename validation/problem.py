"""One problem in a file, as it is printed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a file a person wrote.

    Attributes:
        path: Path of the key in the file (`train.learning_rate`).
        message: Statement of what is wrong.
        value: Value found there, as text; empty if there is none to show.
        fix: Sentence that says what to write instead; empty if the message already does.
    """

    path: str
    message: str
    value: str = ""
    fix: str = ""

    def __str__(self) -> str:
        got = f" (got {self.value})" if self.value else ""
        fix = f". {self.fix}" if self.fix else ""
        return f"{self.path}: {self.message}{got}{fix}"
