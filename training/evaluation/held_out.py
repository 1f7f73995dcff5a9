"""Held-out rows: means over all of them, whatever the batches or processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from training.data.storage.table import RowTable
from training.trainer.context import CollateFunction
from training.trainer.distributed import ControlPlane
from training.trainer.metrics import HeldOutMetric, Sums, add_sums
from training.trainer.sample_order import PADDING_INDEX
from training.trainer.seed import preserve_rng_state


class HeldOutEvaluator:
    """Rows that are measured before, during and after training.

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
        collate: CollateFunction,
        batch_size: int,
        control: ControlPlane,
        precision: str,
    ):
        self.table = table
        self.collate = collate
        self.batch_size = batch_size
        self.control = control
        self.precision = precision

    def measure(self, model: Any, measure: HeldOutMetric) -> dict[str, float]:
        """Return what all rows together come to, `loss` first.

        Leaves the model's mode and every random generator as they were.

        Args:
            model: Wrapped by its engine, where there is one.
            measure: How a batch is measured: the trainer, or `NextToken`.
        """
        device = self.control.world.device
        was_training = model.training
        model.eval()
        found: Sums = {}
        autocast = torch.autocast(
            device.type,
            dtype={"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision),
            enabled=self.precision != "fp32",
        )
        with preserve_rng_state(), torch.no_grad(), autocast:
            for rows in self._batches():
                batch = {
                    name: value.to(device) if isinstance(value, torch.Tensor) else value
                    for name, value in self.collate(rows).items()
                }
                found = add_sums([found, measure.measure_batch(model, batch)])
        model.train(was_training)
        return measure.aggregate(add_sums(self.control.all_gather(found)))

    def _batches(self) -> Iterable[list[dict[str, Any]]]:
        """Yield this process's batches; every process makes the same number of forward passes."""
        world = self.control.world
        wide = self.batch_size * world.size
        for first in range(0, len(self.table), wide):
            mine = range(first + world.rank, first + wide, world.size)
            indices = [i if i < len(self.table) else PADDING_INDEX for i in mine]
            yield [
                self.collate.padding_example() if i == PADDING_INDEX else self.table[i]
                for i in indices
            ]
