"""What the loop tells those who watch it: guards, progress, tracking."""

from __future__ import annotations

from typing import Any, Protocol

from training.step_metrics import StepMetrics


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
