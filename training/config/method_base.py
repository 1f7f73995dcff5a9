"""Base class of the `method:` sections: what a method declares for the rest of the project."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from training.config.base import ConfigSection
from training.config.metric_labels import Labels
from training.config.step_profile import StepProfile, StepSpec
from training.errors import Problem

RowKind = Literal["text", "dialogue", "preference", "unpaired", "prompt"]
Head = Literal["language", "score"]
"""Output of the model: the next token, or one number per text."""


class MethodSection(ConfigSection):
    """Section of one training method.

    The planner, the report and the checks read what a method needs from its class, so that adding
    a method changes none of them.
    """

    impl: ClassVar[str]
    """`module:function` that builds the trainer; imported only when a run starts."""
    rows: ClassVar[RowKind]
    """Kind of row that the method learns from."""
    title: ClassVar[str]
    """Name of the method in a report."""
    metrics: ClassVar[Labels] = {}
    """Labels of the method's own held-out metrics, the most telling first."""
    head: ClassVar[Head] = "language"
    """Output of the model."""
    min_rows_per_step: ClassVar[int] = 1
    """Fewest rows of an optimizer step, for a method that compares the rows of a step."""
    weighs_pairs: ClassVar[bool] = False
    """True if the method weighs the pairs of a ranking, so that a ranking counts as one."""
    trains: ClassVar[bool] = True
    """False for a method that writes rows for later stages and does not change the model."""

    @property
    def max_new_tokens(self) -> int:
        """Longest answer sampled for a prompt while training; 0 if none is sampled."""
        return 0

    @property
    def answers_per_prompt(self) -> int:
        """Answers per prompt of a step, counted by `global_batch_size`; 0 if none is sampled."""
        return 0

    @property
    def reads_ahead(self) -> bool:
        """True if rows are read out of order, which a stream does not allow."""
        return self.max_new_tokens > 0

    @property
    def loss_may_be_zero(self) -> bool:
        """True if a loss of exactly 0 is no sign of a fault."""
        return self.max_new_tokens > 0

    @property
    def warmup_steps(self) -> int:
        """Optimizer steps at the start in which some trainable parameters do not change yet."""
        return 0

    def rollout_schedule(self, global_batch_size: int) -> tuple[int, int] | None:
        """Return the rows of one rollout and the number of epochs over them.

        None if every step takes new rows.
        """
        return None

    def validate_against(self, job: Any) -> Iterator[Problem]:
        """Yield what the method cannot be combined with in the rest of a job."""
        yield from ()

    def step_profile(self, job: Any, step: StepSpec) -> StepProfile | None:
        """Return the costs of one step, for the planner; None plans the method as `sft`.

        Args:
            job: The job that the method is part of.
            step: Size of a step on one device.
        """
        return None
