"""Callbacks of the training loop: the interface that guards, progress and tracking implement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class StepMetrics:
    """Metrics of one optimizer step, summed over its micro-batches and all processes.

    Attributes:
        step: Optimizer steps done, including this one.
        epoch: Passes over the data so far.
        loss: Mean over the step's supervised tokens.
        grad_norm: Norm of the complete gradient before clipping; None if the engine reports none.
        learning_rate: Learning rate of this step.
        tokens: Tokens consumed, without padding.
        supervised_tokens: Tokens that the loss is averaged over.
        row_ids: Readable ids of the rows consumed, in order.
        seconds: Wall time of the step.
        extra: Metrics that the method adds (rewards, margins).
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
    """Observer that is called on every process at every step, and may raise to stop the run."""

    def on_start(self, model: Any, step: int) -> None:
        """Handle the start of training, or its resumption after `step` steps."""

    def on_step(self, metrics: StepMetrics, model: Any) -> None:
        """Handle the end of an optimizer step."""

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        """Handle the metrics of the held-out rows."""

    def on_save(self, step: int) -> None:
        """Handle the checkpoint that was written after `step`."""


class BaseCallback:
    """Callback that does nothing, to derive from."""

    def on_start(self, model: Any, step: int) -> None:
        """Do nothing."""

    def on_step(self, metrics: StepMetrics, model: Any) -> None:
        """Do nothing."""

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        """Do nothing."""

    def on_save(self, step: int) -> None:
        """Do nothing."""
