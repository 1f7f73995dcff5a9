"""A trainable tensor that stays where it was is not being trained, however the loss falls.

The classics: `lora_B` that stays zero under a sharded optimizer, layers cut off by a hook, bf16
weights too coarse for a small learning rate.
"""

from __future__ import annotations

from typing import Any

import torch

from training.config.types import Every
from training.errors import GuardError
from training.step_metrics import StepMetrics
from training.trainer.callbacks import BaseCallback
from training.trainer.distributed import ControlPlane
from training.trainer.triggers import IntervalTrigger

_CHUNK = 1 << 22


class ParametersUpdated(BaseCallback):
    """Compares a fingerprint of every trainable tensor with the one from the start, once.

    Args:
        after: When to look.
        steps_per_epoch: Turns epochs into steps.
        control: Under sharding each process sees its own part; they agree here.
        not_before: The first step in which all of them learn.
    """

    def __init__(
        self, after: Every, steps_per_epoch: float, control: ControlPlane, not_before: int = 0
    ):
        self._due = IntervalTrigger(after, steps_per_epoch)
        self._control = control
        self._start: dict[str, tuple[float, float]] = {}
        self._not_before = not_before
        self._moved_rates = 0
        self._is_due = False

    def on_start(self, model: Any, step: int) -> None:
        """Remember where every trainable tensor is."""
        self._start = {
            name: _fingerprint(p) for name, p in model.named_parameters() if p.requires_grad
        }

    def on_step(self, facts: StepMetrics, model: Any) -> None:
        """Raise when a tensor has not moved by the time it should have.

        Raises:
            GuardError: Names the tensors.
        """
        self._moved_rates += facts.learning_rate > 0
        self._is_due |= self._moved_rates >= 3 and self._due.due(facts.step)
        # Two steps at least: LoRA's A has no gradient while its B is still zero.
        if not self._start or not self._is_due or facts.step < self._not_before + 3:
            return
        parameters = dict(model.named_parameters())
        moved = {
            name for name, before in self._start.items() if _fingerprint(parameters[name]) != before
        }
        # Zero from the start, and meant to be zero now.
        moved |= {name for name, p in parameters.items() if getattr(p, "may_rest", False)}
        everywhere = set().union(*self._control.all_gather(moved))
        still = [name for name in self._start if name not in everywhere]
        total = len(self._start)
        self._start = {}
        if still:
            raise GuardError(
                f"{len(still)} of {total} trainable tensors have not moved after {facts.step} "
                f"steps: {', '.join(still[:5])}{', …' if len(still) > 5 else ''}. They are not "
                f"being trained. Freeze them (model.freeze.patterns) if that is meant; raise "
                f"train.learning_rate (now {facts.learning_rate:.3g}) if it is too small for the "
                f"precision"
            )


def _fingerprint(parameter: torch.nn.Parameter) -> tuple[float, float]:
    """Return two sums over this process's part of a tensor, in double precision."""
    # Under ZeRO 3 the tensor itself is empty between uses and the part lies beside it.
    part = getattr(parameter, "ds_tensor", parameter).detach().flatten()
    first, second = 0.0, 0.0
    for start in range(0, part.numel(), _CHUNK):
        values = part[start : start + _CHUNK].double()
        weights = torch.arange(1, values.numel() + 1, dtype=torch.float64, device=values.device)
        first += float(values.sum())
        second += float((values * weights).sum())
    return first, second
