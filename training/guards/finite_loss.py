"""A loss that is no number, or exactly zero, is a fault and not a result."""

from __future__ import annotations

import math
from typing import Any

from training.errors import GuardError
from training.step_metrics import StepMetrics
from training.trainer.callbacks import BaseCallback

_FP16_SKIPS = 50
"""Steps in a row that fp16's loss scaling may skip while it looks for its scale."""


class FiniteLoss(BaseCallback):
    """Stops at a loss or gradient that is NaN, infinite, or zero.

    Args:
        precision: fp16 may overflow in its gradients now and then; the scaler skips such a step.
        zero_is_fault: Whether the method's loss is never exactly 0 where something is learned.
    """

    def __init__(self, precision: str, *, zero_is_fault: bool = True):
        self.precision = precision
        self.zero_is_fault = zero_is_fault
        self._overflows = 0

    def on_step(self, facts: StepMetrics, model: Any) -> None:
        """Raise at the first step whose numbers are impossible.

        Raises:
            GuardError: Names the step, the value and the likely cause.
        """
        rows = ", ".join(facts.row_ids[:3])
        if not math.isfinite(facts.loss):
            raise GuardError(
                f"the loss of step {facts.step} is {facts.loss} (rows {rows}, …; learning rate "
                f"{facts.learning_rate:.3g}). Lower train.learning_rate, lengthen train.warmup"
                + (", or use precision bf16" if self.precision == "fp16" else "")
                + ". Earlier checkpoints are intact"
            )
        if facts.loss == 0.0 and self.zero_is_fault:
            raise GuardError(
                f"the loss of step {facts.step} is exactly 0 over {facts.supervised_tokens} "
                f"supervised tokens (rows {rows}, …). A model that knows its data this well has "
                f"been trained on it, or the labels are wrong: look at mask_preview.txt"
            )
        self._check_gradient(facts)

    def _check_gradient(self, facts: StepMetrics) -> None:
        if facts.grad_norm is None or math.isfinite(facts.grad_norm):
            self._overflows = 0
            return
        self._overflows += 1
        allowed = _FP16_SKIPS if self.precision == "fp16" else 0
        if self._overflows > allowed:
            raise GuardError(
                f"the gradient of step {facts.step} has norm {facts.grad_norm}"
                + (f" ({self._overflows} steps in a row)" if allowed else "")
                + f" at a loss of {facts.loss:.4f}. Lower train.learning_rate"
            )
