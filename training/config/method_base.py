"""What every method declares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from training.config.base import ConfigSection
from training.errors import Problem

RowKind = Literal["text", "dialogue", "preference", "unpaired", "prompt"]
Head = Literal["language", "score"]
"""What a model puts out: the next token, or one number for a text."""


class MethodSection(ConfigSection):
    """What every method declares."""

    impl: ClassVar[str]
    """`module:function` that builds its trainer, imported only when used."""
    rows: ClassVar[RowKind]
    """What kind of row it learns from."""
    title: ClassVar[str]
    """What it is called in a report."""
    head: ClassVar[Head] = "language"
    """What the model puts out."""
    trains: ClassVar[bool] = True
    """Whether it changes the model; else it writes rows, which stages behind it learn from."""

    @property
    def max_new_tokens(self) -> int:
        """Longest answer sampled from each prompt while training; 0 where none is."""
        return 0

    @property
    def answers_per_prompt(self) -> int:
        """Answers sampled to each prompt of a step, which `global_batch_size` counts; 0: none."""
        return 0

    @property
    def reads_ahead(self) -> bool:
        """Whether it reads rows out of turn, which a stream cannot give."""
        return self.max_new_tokens > 0

    @property
    def loss_may_be_zero(self) -> bool:
        """Whether a loss of exactly 0 is nothing to wonder at."""
        return self.max_new_tokens > 0

    @property
    def waits_steps(self) -> int:
        """Optimizer steps at the start in which a part of what is trained stays as it is."""
        return 0

    def rounds(self, global_batch_size: int) -> tuple[int, int] | None:
        """Return the rows of a round and how often it is gone through before the next.

        None where every step takes rows of its own.
        """
        return None

    def validate_against(self, job: Any) -> Iterator[Problem]:
        """Yield what it cannot go with in the rest of a job."""
        yield from ()
