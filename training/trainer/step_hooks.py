"""Step hooks: work that an adapter does in every training step, such as AdaLoRA's rank allocation.

A hook is attached to the model, because adapters are built before the trainer exists.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn

_ATTRIBUTE = "step_hook"
STEP_HOOK_FILE = "step_hook.pt"
"""File of a checkpoint that holds the hook's state."""


class StepHook(Protocol):
    """Hook that the training loop calls on every process."""

    def on_train_begin(self, max_steps: int) -> None:
        """Receive the number of optimizer steps of the complete run."""

    def add_gradients(self) -> dict[str, float]:
        """Add the hook's own gradients, once per step and before clipping; return metrics."""

    def on_optimizer_step(self, step: int) -> dict[str, float]:
        """Act after the optimizer step, before gradients are zeroed; return metrics."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state that resuming needs: tensors, and values that JSON can hold."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""


def register_step_hook(model: nn.Module, hook: StepHook) -> None:
    """Attach `hook` to the steps that train `model`."""
    setattr(model, _ATTRIBUTE, hook)


def get_step_hook(model: nn.Module) -> StepHook | None:
    """Return the step hook of a model, or None."""
    return vars(model).get(_ATTRIBUTE)
