"""Losses that are a mean over rows (pairs, answers), whatever the micro-batches and processes.

TRL's preference trainers take the mean of each micro-batch and then the mean of those, which is
another number as soon as one micro-batch is shorter than the others; and they gather a dozen
metrics from every process for every micro-batch. Here a micro-batch counts by its rows, and what
is logged is gathered once a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from trl.trainer.utils import FusedCausalLMOutput

from training.trainer.exact_trainer import ExactTrainerMixin
from training.trainer.metrics import Sums, means


class PerRowLossMixin(ExactTrainerMixin):
    """Mix into a TRL trainer whose loss is a mean over the rows of a micro-batch."""

    loss_is_scaled_for_ga = True

    def row_means(
        self, model: Any, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, dict[str, float | torch.Tensor]]:
        """Return the loss of a micro-batch, and metrics of it: each a mean over its rows."""
        raise NotImplementedError

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> int:
        """Return the rows of the step, those of every process together."""
        mine = sum(batch["num_rows"] for batch in batch_samples)
        return max(1, sum(self.setup.control.all_gather(mine)))

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Return this micro-batch's part of the mean over all rows of the step."""
        assert not return_outputs and num_items_in_batch is not None
        rows = inputs.pop("num_rows")
        loss, found = self.row_means(model, inputs)
        for name, mean in found.items():
            self.add_metric(name, mean * rows, rows)
        return loss * (rows * self.setup.world.size / num_items_in_batch)

    def measure_batch(self, model: Any, batch: dict[str, Any]) -> Sums:
        """Return the sums of a batch of held-out rows."""
        rows = batch.pop("num_rows")
        loss, found = self.row_means(model, batch)
        return {name: (float(mean) * rows, rows) for name, mean in {"loss": loss, **found}.items()}

    def aggregate(self, sums: Sums) -> dict[str, float]:
        """Return the means over all held-out rows, and how many there were."""
        return {**means(sums), "rows": float(sums["loss"][1])}


class _SingleProcessAccelerator:
    """An accelerator that gathers nothing: this process's numbers stay its own."""

    def __init__(self, accelerator: Any):
        self._accelerator = accelerator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._accelerator, name)

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    gather_for_metrics = gather

    def reduce(self, tensor: torch.Tensor, reduction: str = "sum") -> torch.Tensor:
        return tensor


@contextmanager
def own_metrics(trainer: Any) -> Iterator[dict[str, float]]:
    """Let a TRL trainer compute a loss, and give what it would log, of this process alone.

    Processes may then have micro-batches of different sizes, and none waits for another.
    """
    accelerator = trainer.accelerator
    trainer.accelerator = _SingleProcessAccelerator(accelerator)
    mode = "train" if trainer.model.training else "eval"
    found: dict[str, float] = {}
    try:
        yield found
        found.update({name: values[-1] for name, values in trainer._metrics[mode].items()})
    finally:
        trainer._metrics[mode].clear()
        trainer.accelerator = accelerator


def unmasked(model: Any) -> Callable[..., Any]:
    """Return `model` as one to be called without the attention mask.

    Rows are padded on the right and attention is causal: nothing that counts sees the padding, and
    attention without a mask is faster.
    """

    def forward(*args: Any, attention_mask: Any = None, **inputs: Any) -> Any:
        return model(*args, **inputs)

    return forward


def scoring_answers(model: Any) -> Callable[..., Any]:
    """Return `model` as TRL's preference trainers call theirs, giving the log-probabilities alone.

    Theirs puts every position through the head, and takes entropies and means of logits along the
    way; only the answers are needed, and only how likely they are.
    """

    def forward(
        *, input_ids: torch.Tensor, labels: torch.Tensor, **ignored: Any
    ) -> FusedCausalLMOutput:
        found = model(input_ids=input_ids, labels=labels, next_token_log_probs=True)
        nothing = torch.zeros_like(found.log_probs.detach())
        return FusedCausalLMOutput(
            log_probs=found.log_probs,
            entropy=nothing,
            mean_logits=nothing,
            is_top1=nothing.bool(),
            label_mask=found.label_mask,
        )

    return forward


def switch_off_dropout(model: torch.nn.Module) -> None:
    """Switch off the model's own dropout, which would tell it and its reference apart.

    An adapter's stays, where the job asks for it.
    """
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout) and "lora_dropout" not in name:
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            setattr(module, "attention_dropout", 0.0)  # noqa: B010  (untyped)
