"""What the loop tells those who watch it: guards, progress, tracking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class StepMetrics:
    """One optimizer step, summed over its micro-batches and all processes.

    Attributes:
        step: Optimizer steps done, this one included.
        epoch: Passes over the data so far.
        loss: Mean over the step's supervised tokens.
        grad_norm: Norm of the whole gradient before clipping; None where the engine has none.
        learning_rate: Used by this step.
        tokens: Real tokens consumed (no padding).
        supervised_tokens: Tokens the loss is a mean over.
        row_ids: Readable ids of the rows consumed, in order.
        seconds: Wall time of the step.
        extra: What a method adds (rewards, margins).
    """

    step: int
    epoch: float
    loss: float
    grad_norm: float | None
    learning_rate: float
    tokens: int
    supervised_tokens: int
    row_ids: tuple[str, ...]
    seconds: float
    extra: dict[str, float]


class Callback(Protocol):
    """Sees every step on every process; may raise to stop the run."""

    def on_start(self, model: Any, step: int) -> None:
        """Training begins (or goes on) after `step` steps."""

    def on_step(self, facts: StepMetrics, model: Any) -> None:
        """An optimizer step was taken."""

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        """The held-out rows were measured."""

    def on_save(self, step: int) -> None:
        """A checkpoint was written."""


class BaseCallback:
    """A watcher that does nothing, to build on."""

    def on_start(self, model: Any, step: int) -> None:
        """Do nothing."""

    def on_step(self, facts: StepMetrics, model: Any) -> None:
        """Do nothing."""

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        """Do nothing."""

    def on_save(self, step: int) -> None:
        """Do nothing."""
