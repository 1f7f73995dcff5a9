"""Typed interface of the parts of Transformers' `Trainer` that `ExactTrainerMixin` uses.

The mixin precedes a trainer class that it does not know. For the type checker its base is the class
below; at run time the base is `object`, and the trainer is next in the method resolution order. A
test compares every name here with the installed `Trainer`, so an upgrade that renames one fails.
"""

# ruff: noqa: D102  (Transformers documents these methods)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    class TrainerParent:
        """Methods and attributes of a Transformers trainer that the loop calls or overrides."""

        model: Any
        optimizer: torch.optim.Optimizer
        lr_scheduler: Any
        state: Any
        accelerator: Any
        is_deepspeed_enabled: bool
        model_accepts_loss_kwargs: bool
        current_gradient_accumulation_steps: int

        def __init__(self, **arguments: Any) -> None: ...

        def train(self, resume_from_checkpoint: str | None = None) -> Any: ...
        def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any) -> torch.Tensor: ...
        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any: ...
        def create_optimizer(self, *arguments: Any, **more: Any) -> torch.optim.Optimizer: ...
        def create_scheduler(self, *arguments: Any, **more: Any) -> Any: ...
        def get_decay_parameter_names(self, model: Any) -> list[str]: ...
        def save_model(
            self, output_dir: str | None = None, _internal_call: bool = False
        ) -> None: ...
        def _save(
            self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None
        ) -> None: ...
        def _issue_warnings_after_load(self, load_result: Any) -> None: ...
        def add_callback(self, callback: Any) -> None: ...
        def remove_callback(self, callback: Any) -> None: ...
        def _prepare_for_training(
            self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None
        ) -> Any: ...
        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None: ...
        def _save_checkpoint(self, model: Any, trial: Any) -> None: ...
        def _get_output_dir(self, trial: Any) -> str: ...
        def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any: ...
        def _get_learning_rate(self) -> float: ...

else:
    TrainerParent = object
