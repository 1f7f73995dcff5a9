"""Callbacks of the training loop: the interface that guards, progress and tracking implement."""

from __future__ import annotations

from typing import Any, Protocol

from training.step_metrics import StepMetrics


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
