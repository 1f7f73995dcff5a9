"""Metrics as sums and weights, which add up exactly over batches and processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch

Sums = dict[str, tuple[float, float]]
"""Total and weight by name; the total is divided by the weight at the end. `loss` is first."""


class HeldOutMetric(Protocol):
    """Metric of held-out rows."""

    def measure_batch(self, model: Any, batch: dict[str, Any]) -> Sums:
        """Return the sums of one batch, which is on the model's device.

        Args:
            model: In eval mode, without gradients, in the precision of training.
            batch: Collated rows.
        """

    def aggregate(self, sums: Sums) -> dict[str, float]:
        """Return the metrics of all rows; early stopping watches `loss`."""


class NextTokenMetric:
    """Loss of a language model in nats per supervised token, and its accuracy on these tokens."""

    def measure_batch(self, model: Any, batch: dict[str, Any]) -> Sums:
        """Return the sums of the loss and of the top-1 hits, and the supervised tokens."""
        outputs = model(**batch, next_token_log_probs=True, top1=True)
        # On the host: Trainium has no fp64.
        total = float(-outputs.log_probs.cpu().double().sum())
        count = int((batch["labels"][:, 1:] != -100).sum())
        return {"loss": (total, count), "token_accuracy": (float(outputs.top1.sum()), count)}

    def aggregate(self, sums: Sums) -> dict[str, float]:
        """Return `loss` (nats per token), `perplexity`, `token_accuracy` and `tokens`."""
        total, count = sums["loss"]
        hits, _ = sums["token_accuracy"]
        loss = total / max(count, 1)
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700)),
            "token_accuracy": hits / max(count, 1),
            "tokens": float(count),
        }


def add_sums(parts: list[Sums]) -> Sums:
    """Return the sums of several batches or processes as one."""
    names = dict.fromkeys(name for part in parts for name in part)
    combined = {}
    for name in names:
        pairs = [part[name] for part in parts if name in part]
        combined[name] = (sum(total for total, _ in pairs), sum(weight for _, weight in pairs))
    return combined


def means(sums: Sums) -> dict[str, float]:
    """Return each total divided by its weight; names of weight 0 are left out."""
    return {name: total / weight for name, (total, weight) in sums.items() if weight}


def read_numbers(values: Sequence[Any]) -> list[float]:
    """Return numbers and scalar tensors as floats.

    Tensors of one dtype and device are read together: each read makes the host wait.
    """
    numbers = [0.0 if isinstance(value, torch.Tensor) else float(value) for value in values]
    groups: dict[tuple[torch.dtype, torch.device], list[int]] = {}
    for index, value in enumerate(values):
        if isinstance(value, torch.Tensor):
            groups.setdefault((value.dtype, value.device), []).append(index)
    for indices in groups.values():
        read = torch.stack([values[index].detach().reshape(()) for index in indices]).cpu().tolist()
        for index, number in zip(indices, read, strict=True):
            numbers[index] = float(number)
    return numbers
