"""Losses that are a mean over the rows (pairs, answers) of an optimizer step.

TRL's preference trainers average each micro-batch and then average these means, which is a
different number as soon as one micro-batch has fewer rows; and they gather a dozen metrics from
every process in every micro-batch. Here a micro-batch is weighted by its rows, and metrics are
gathered once per step.
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
    """Mixin for TRL trainers whose loss is a mean over the rows of a micro-batch."""

    # The loss is divided by the rows of the complete step: Transformers must not divide it again.
    loss_is_scaled_for_ga = True

    def _prepare_dataset(self, dataset: Any, *ignored: Any) -> Any:
        """Return the dataset unchanged: its rows are tokenized already."""
        return dataset

    def micro_batch_means(
        self, model: Any, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, dict[str, float | torch.Tensor]]:
        """Return the loss and the metrics of a micro-batch, each a mean over its rows."""
        raise NotImplementedError

    def batch_weight(self, batch: dict[str, Any]) -> float:
        """Return the weight of a micro-batch in the mean: its rows without padding."""
        rows: int = batch["num_rows"]
        return rows

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """Return the weight of all rows of the step, over all processes."""
        mine = sum(self.batch_weight(batch) for batch in batch_samples)
        return sum(self.setup.control.all_gather(mine)) or 1

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Return the contribution of a micro-batch to the mean over all rows of the step.

        Args:
            model: Model, wrapped by its engine.
            inputs: Micro-batch; `num_rows` is its number of rows without padding.
            return_outputs: Must be False.
            num_items_in_batch: Rows of the step over all processes.
        """
        assert not return_outputs and num_items_in_batch is not None
        weight = self.batch_weight(inputs)
        inputs.pop("num_rows")
        loss, metrics = self.micro_batch_means(model, inputs)
        for name, mean in metrics.items():
            self.add_metric(name, mean * weight, weight)
        # Times the number of processes, because data parallelism averages their gradients.
        return loss * (weight * self.setup.world.size / num_items_in_batch)

    def measure_batch(self, model: Any, batch: dict[str, Any]) -> Sums:
        """Return the sums of a batch of held-out rows."""
        rows = batch.pop("num_rows")
        loss, metrics = self.micro_batch_means(model, batch)
        every = {"loss": loss, **metrics}
        return {name: (float(mean) * rows, rows) for name, mean in every.items()}

    def aggregate(self, sums: Sums) -> dict[str, float]:
        """Return the means over all held-out rows, and the number of rows."""
        return {**means(sums), "rows": float(sums["loss"][1])}


class _SingleProcessAccelerator:
    """Accelerator whose gather and reduce return the values of this process."""

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
def local_metrics(trainer: Any) -> Iterator[dict[str, float]]:
    """Yield a dictionary that receives the metrics of a TRL loss, of this process alone.

    Without the communication inside TRL's loss, processes may have micro-batches of different
    sizes, and none waits for another.
    """
    accelerator = trainer.accelerator
    trainer.accelerator = _SingleProcessAccelerator(accelerator)
    mode = "train" if trainer.model.training else "eval"
    metrics: dict[str, float] = {}
    try:
        yield metrics
        metrics.update({name: values[-1] for name, values in trainer._metrics[mode].items()})
    finally:
        trainer._metrics[mode].clear()
        trainer.accelerator = accelerator


def without_attention_mask(model: Any) -> Callable[..., Any]:
    """Return `model` as a function that ignores the attention mask.

    Rows are padded on the right and attention is causal, so that no token sees the padding;
    attention without a mask is faster.
    """

    def forward(*args: Any, attention_mask: Any = None, **inputs: Any) -> Any:
        return model(*args, **inputs)

    return forward


def log_probs_only(model: Any) -> Callable[..., Any]:
    """Return `model` as TRL's preference losses call theirs, with the log-probabilities alone.

    TRL's own call passes every position through the head and computes entropies and mean logits
    for its metrics; the losses need only the log-probabilities of the answers.
    """

    def forward(
        *, input_ids: torch.Tensor, labels: torch.Tensor, **ignored: Any
    ) -> FusedCausalLMOutput:
        outputs = model(input_ids=input_ids, labels=labels, next_token_log_probs=True)
        zeros = torch.zeros_like(outputs.log_probs.detach())
        return FusedCausalLMOutput(
            log_probs=outputs.log_probs,
            entropy=zeros,
            mean_logits=zeros,
            is_top1=zeros.bool(),
            label_mask=outputs.label_mask,
        )

    return forward


def disable_dropout(model: torch.nn.Module) -> None:
    """Disable the model's own dropout, which would make it differ from its reference.

    The dropout of an adapter stays if the job asks for it.
    """
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout) and "lora_dropout" not in name:
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            setattr(module, "attention_dropout", 0.0)  # noqa: B010  (untyped)
