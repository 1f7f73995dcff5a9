"""What a model is measured by: sums and weights, which add up over batches and processes."""

from __future__ import annotations

import math
from typing import Any, Protocol

Sums = dict[str, tuple[float, float]]
"""By name, a total and what it is divided by once everything is added up; `loss` comes first."""


class HeldOutMetric(Protocol):
    """How held-out rows are measured."""

    def measure_batch(self, model: Any, batch: dict[str, Any]) -> Sums:
        """Return the sums of one batch, which is on the model's device.

        Args:
            model: In eval mode, without gradients, in the precision of training.
            batch: As collated.
        """

    def aggregate(self, sums: Sums) -> dict[str, float]:
        """Return what the sums over all rows come to; `loss` is what early stopping goes by."""


class NextTokenMetric:
    """The loss of a language model: nats per supervised token."""

    def measure_batch(self, model: Any, batch: dict[str, Any]) -> Sums:
        """Return the summed loss and the number of supervised tokens."""
        outputs = model(**batch, next_token_log_probs=True)
        total = float(-outputs.log_probs.double().sum())
        return {"loss": (total, int((batch["labels"][:, 1:] != -100).sum()))}

    def aggregate(self, sums: Sums) -> dict[str, float]:
        """Return `loss` (nats per token), `perplexity` and `tokens`."""
        total, count = sums["loss"]
        loss = total / max(count, 1)
        return {"loss": loss, "perplexity": math.exp(min(loss, 700)), "tokens": float(count)}


def add_sums(parts: list[Sums]) -> Sums:
    """Return the sums of several batches or processes as one."""
    names = dict.fromkeys(name for part in parts for name in part)
    found = {}
    for name in names:
        here = [part[name] for part in parts if name in part]
        found[name] = (sum(total for total, _ in here), sum(weight for _, weight in here))
    return found


def means(sums: Sums) -> dict[str, float]:
    """Return each total over its weight; what has no weight is left out."""
    return {name: total / weight for name, (total, weight) in sums.items() if weight}
