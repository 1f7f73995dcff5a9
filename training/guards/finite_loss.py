"""Guard against a loss that is NaN, infinite or exactly zero, and against a non-finite gradient."""

from __future__ import annotations

import math
from typing import Any

from training.errors import GuardError
from training.step_metrics import StepMetrics
from training.trainer.callbacks import BaseCallback

_FP16_SKIPS = 50
"""Consecutive steps that fp16 loss scaling may skip while it searches for a scale."""


class FiniteLoss(BaseCallback):
    """Guard that stops at a NaN, infinite or zero loss, or a NaN or infinite gradient.

    Args:
        precision: Precision of the job. With fp16 the gradient overflows occasionally, and the loss
            scaler skips that step.
        zero_is_fault: Whether a loss of exactly 0 is an error; some methods reach it legitimately.
    """

    def __init__(self, precision: str, *, zero_is_fault: bool = True):
        self.precision = precision
        self.zero_is_fault = zero_is_fault
        self._overflows = 0

    def on_step(self, metrics: StepMetrics, model: Any) -> None:
        """Raise at the first step with an invalid loss or gradient.

        Raises:
            GuardError: The loss or the gradient is invalid.
        """
        rows = ", ".join(metrics.row_ids[:3])
        if not math.isfinite(metrics.loss):
            raise GuardError(
                f"the loss of step {metrics.step} is {metrics.loss} (rows {rows}, …; learning rate "
                f"{metrics.learning_rate:.3g}). Lower train.learning_rate, lengthen train.warmup"
                + (", or use precision bf16" if self.precision == "fp16" else "")
                + ". Earlier checkpoints are intact"
            )
        if metrics.loss == 0.0 and self.zero_is_fault:
            raise GuardError(
                f"the loss of step {metrics.step} is exactly 0 over {metrics.supervised_tokens} "
                f"supervised tokens (rows {rows}, …). A model that knows its data this well has "
                f"been trained on it, or the labels are wrong: look at mask_preview.txt"
            )
        self._check_gradient(metrics)

    def _check_gradient(self, metrics: StepMetrics) -> None:
        if metrics.grad_norm is None or math.isfinite(metrics.grad_norm):
            self._overflows = 0
            return
        self._overflows += 1
        allowed = _FP16_SKIPS if self.precision == "fp16" else 0
        if self._overflows > allowed:
            raise GuardError(
                f"the gradient of step {metrics.step} has norm {metrics.grad_norm}"
                + (f" ({self._overflows} steps in a row)" if allowed else "")
                + f" at a loss of {metrics.loss:.4f}. Lower train.learning_rate"
            )
