"""Evaluation on held-out rows, independent of batch size and number of processes."""

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
    """Evaluator of one set of rows.

    Args:
        table: The rows.
        collate: Collates rows into a batch.
        batch_size: Rows per process and batch.
        control: Gathers the sums of all processes.
        precision: Precision of training, so that losses are comparable.
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

    def evaluate(self, model: Any, metric: HeldOutMetric) -> dict[str, float]:
        """Return the metrics over all rows, `loss` first.

        Restores the model's mode and the state of every random generator.

        Args:
            model: The model, wrapped by its engine if it has one.
            metric: Computes the sums of a batch: the trainer, or `NextTokenMetric`.
        """
        device = self.control.world.device
        was_training = model.training
        model.eval()
        sums: Sums = {}
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
                sums = add_sums([sums, metric.measure_batch(model, batch)])
        model.train(was_training)
        return metric.aggregate(add_sums(self.control.all_gather(sums)))

    def _batches(self) -> Iterable[list[dict[str, Any]]]:
        """Yield this process's batches.

        Every process yields the same number of batches, filled up with padding rows: with sharded
        weights a forward pass is a collective operation.
        """
        world = self.control.world
        stride = self.batch_size * world.size
        for first in range(0, len(self.table), stride):
            own = range(first + world.rank, first + stride, world.size)
            indices = [i if i < len(self.table) else PADDING_INDEX for i in own]
            yield [
                self.collate.padding_example() if i == PADDING_INDEX else self.table[i]
                for i in indices
            ]
