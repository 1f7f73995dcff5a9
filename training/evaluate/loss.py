"""The held-out loss: a mean over every supervised token, whatever the batches or processes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from training.data.table import RowTable
from training.engine.loop import Collate
from training.engine.order import FILLER
from training.engine.seed import untouched_generators
from training.engine.world import ControlPlane


class HeldOut:
    """Rows whose loss is taken before, during and after training.

    Args:
        table: The rows.
        collate: Makes batches of them.
        batch_size: Rows per process at once.
        control: Adds the sums of all processes.
        precision: Computed as in training, so that the numbers can be compared.
    """

    def __init__(
        self,
        table: RowTable,
        collate: Collate,
        batch_size: int,
        control: ControlPlane,
        precision: str,
    ):
        self.table = table
        self.collate = collate
        self.batch_size = batch_size
        self.control = control
        self.precision = precision

    def measure(self, model: Any) -> dict[str, float]:
        """Return `loss` (nats per token), `perplexity` and `tokens`.

        Leaves the model's mode and every random generator as they were.
        """
        device = self.control.world.device
        was_training = model.training
        model.eval()
        total, count = 0.0, 0
        autocast = torch.autocast(
            device.type,
            dtype={"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision),
            enabled=self.precision != "fp32",
        )
        with untouched_generators(), torch.no_grad(), autocast:
            for rows in self._batches():
                batch = {k: v.to(device) for k, v in self.collate(rows).items()}
                outputs = model(**batch, use_cache=False, fused_lm_head=True)
                total += float(-outputs.log_probs.double().sum())
                count += int((batch["labels"][:, 1:] != -100).sum())
        model.train(was_training)
        sums = self.control.gather((total, count))
        total, count = sum(t for t, _ in sums), sum(c for _, c in sums)
        loss = total / max(count, 1)
        return {"loss": loss, "perplexity": math.exp(min(loss, 700)), "tokens": float(count)}

    def _batches(self) -> Iterable[list[dict[str, Any]]]:
        """Yield this process's batches; every process makes the same number of forward passes."""
        world = self.control.world
        wide = self.batch_size * world.size
        for first in range(0, len(self.table), wide):
            mine = range(first + world.rank, first + wide, world.size)
            indices = [i if i < len(self.table) else FILLER for i in mine]
            yield [self.collate.filler() if i == FILLER else self.table[i] for i in indices]
