"""What an adapter does in each step beyond being trained, such as dealing ranks out."""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn

_NAME = "step_hook"
FILE = "step_hook.pt"
"""What a checkpoint keeps of it."""


class StepHook(Protocol):
    """Is asked by the loop, on every process alike."""

    def on_train_begin(self, max_steps: int) -> None:
        """Learn how many optimizer steps the whole run has."""

    def add_gradients(self) -> dict[str, float]:
        """Add gradients of its own, once per step and before they are clipped; return metrics."""

    def on_optimizer_step(self, step: int) -> dict[str, float]:
        """Act after the optimizer, while gradients are still there; return metrics."""

    def state_dict(self) -> dict[str, Any]:
        """Return what going on needs: tensors, and what JSON can hold."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


def register_step_hook(model: nn.Module, step_hook: StepHook) -> None:
    """Let `step_hook` see the steps that train `model`."""
    setattr(model, _NAME, step_hook)


def get_step_hook(model: nn.Module) -> StepHook | None:
    """Return who attends the steps of a model, if anybody does."""
    return vars(model).get(_NAME)
