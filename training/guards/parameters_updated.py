"""Guard against trainable tensors that the optimizer never changes.

The loss may fall although some tensors are not trained. Known causes: `lora_B` that stays zero
under a sharded optimizer, layers detached from the graph by a hook, bf16 weights whose rounding
absorbs a small learning rate.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from training.config.types import Every
from training.errors import GuardError
from training.models.double_precision import in_double
from training.step_metrics import StepMetrics
from training.trainer.callbacks import BaseCallback
from training.trainer.distributed import ControlPlane
from training.trainer.triggers import IntervalTrigger

_CHUNK = 1 << 22


class ParametersUpdated(BaseCallback):
    """Guard that compares a fingerprint of every trainable tensor with its initial one, once.

    Args:
        after: Interval after which to compare.
        steps_per_epoch: Optimizer steps per epoch.
        control: Combines the results of all processes, each of which sees its own shard.
        not_before: First step in which every trainable tensor learns.
    """

    def __init__(
        self, after: Every, steps_per_epoch: float, control: ControlPlane, not_before: int = 0
    ):
        self._due = IntervalTrigger(after, steps_per_epoch)
        self._control = control
        self._start: dict[str, tuple[float, float]] = {}
        self._not_before = not_before
        self._steps_with_lr = 0
        self._is_due = False

    def on_start(self, model: Any, step: int) -> None:
        """Record a fingerprint of every trainable tensor."""
        self._start = {
            name: _fingerprint(p) for name, p in model.named_parameters() if p.requires_grad
        }

    def on_step(self, metrics: StepMetrics, model: Any) -> None:
        """Compare the fingerprints when the interval has passed.

        Raises:
            GuardError: Some tensors were not updated.
        """
        # The loss scaler of fp16 skips a step whose gradient overflows.
        skipped = metrics.grad_norm is not None and not math.isfinite(metrics.grad_norm)
        self._steps_with_lr += metrics.learning_rate > 0 and not skipped
        self._is_due |= self._steps_with_lr >= 3 and self._due.due(metrics.step)
        # LoRA initializes B to zero, so A has no gradient in the first step; warm-up may start at
        # a learning rate of zero. Hence three steps with a learning rate.
        if not self._start or not self._is_due or metrics.step < self._not_before + 3:
            return
        parameters = dict(model.named_parameters())
        updated = {
            name for name, before in self._start.items() if _fingerprint(parameters[name]) != before
        }
        # Tensors that may legitimately stay zero, such as unused AdaLoRA ranks.
        updated |= {name for name, p in parameters.items() if getattr(p, "may_rest", False)}
        updated_anywhere = set().union(*self._control.all_gather(updated))
        unchanged = [name for name in self._start if name not in updated_anywhere]
        total = len(self._start)
        self._start = {}
        if unchanged:
            names = ", ".join(unchanged[:5]) + (", …" if len(unchanged) > 5 else "")
            raise GuardError(
                f"{len(unchanged)} of {total} trainable tensors have not changed after "
                f"{metrics.step} steps: {names}. They are not being trained. Freeze them "
                f"(model.freeze.patterns) if that is intended; raise train.learning_rate "
                f"(now {metrics.learning_rate:.3g}) if it is too small for the precision"
            )


def _fingerprint(parameter: torch.nn.Parameter) -> tuple[float, float]:
    """Return two sums over this process's part of a tensor, in double precision.

    The second sum is weighted by position, so that changes that cancel in the first one show.
    """
    # Under ZeRO 3 the parameter itself is empty between uses; `ds_tensor` holds the local part.
    part = getattr(parameter, "ds_tensor", parameter).detach()
    part = (part.to_local() if isinstance(part, DTensor) else part).flatten()
    first, second = 0.0, 0.0
    for start in range(0, part.numel(), _CHUNK):
        values = in_double(part[start : start + _CHUNK])
        weights = torch.arange(1, values.numel() + 1, dtype=torch.float64, device=values.device)
        first += float(values.sum())
        second += float((values * weights).sum())
    return first, second
