"""Which rows each optimizer step consumes: a pure function of the seed.

The rows of all epochs stand in one line, each epoch shuffled by itself; optimizer step `s` takes
the next `global_batch_size` of them. Nothing depends on the number of processes or on the micro
batch, so a run may be resumed on other hardware and still see every row exactly as often.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

FILLER = -1
"""Stands for a row without tokens, where the last step has fewer rows than the others."""


@dataclass(frozen=True)
class Order:
    """The line of rows.

    Attributes:
        num_rows: Rows in the table.
        global_batch_size: Rows per optimizer step.
        total_rows: Rows consumed by the whole run.
        seed: Decides the shuffle of every epoch.
        shuffle: Whether rows are shuffled at all.
    """

    num_rows: int
    global_batch_size: int
    total_rows: int
    seed: int
    shuffle: bool = True

    @classmethod
    def of(
        cls,
        num_rows: int,
        *,
        global_batch_size: int,
        epochs: float,
        max_steps: int | None,
        seed: int,
        shuffle: bool,
    ) -> Order:
        """Return the order of a run that lasts `max_steps`, or `epochs` when that is None."""
        total = max_steps * global_batch_size if max_steps else max(1, round(num_rows * epochs))
        return cls(num_rows, global_batch_size, total, seed, shuffle)

    @property
    def max_steps(self) -> int:
        """Optimizer steps in the whole run."""
        return math.ceil(self.total_rows / self.global_batch_size)

    @property
    def steps_per_epoch(self) -> float:
        """Optimizer steps in one pass over the data; not necessarily a whole number."""
        return self.num_rows / self.global_batch_size

    def epoch_at(self, step: int) -> float:
        """Return how many epochs have been seen after `step` optimizer steps."""
        return min(step * self.global_batch_size, self.total_rows) / self.num_rows

    def epoch_rows(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the rows of one epoch in the order they are seen."""
        if not self.shuffle:
            return np.arange(self.num_rows)
        return np.random.default_rng([self.seed, epoch]).permutation(self.num_rows)

    def steps(self, start: int = 0) -> Iterator[list[int]]:
        """Yield the rows of each optimizer step, from step `start` on."""
        epoch, rows = -1, np.empty(0, dtype=np.int64)
        for step in range(start, self.max_steps):
            first = step * self.global_batch_size
            batch = []
            for position in range(first, min(first + self.global_batch_size, self.total_rows)):
                if position // self.num_rows != epoch:
                    epoch = position // self.num_rows
                    rows = self.epoch_rows(epoch)
                batch.append(int(rows[position % self.num_rows]))
            yield batch


class MicroBatches(Sampler[list[int]]):
    """The micro-batches of one process, in order, for the whole run.

    Within one optimizer step rows are sorted by length and dealt out so that the rows of a
    micro-batch, over all processes, are of like length: less padding, and no process waits for
    another. The step's gradient is a mean over its tokens and does not depend on the dealing.
    """

    def __init__(
        self,
        order: Order,
        *,
        rank: int,
        world_size: int,
        micro_batch_size: int,
        lengths: Sequence[int] | npt.NDArray[np.int64] | None = None,
    ):
        self.order = order
        self.rank = rank
        self.world_size = world_size
        self.micro_batch_size = micro_batch_size
        self.lengths = lengths
        self.accumulation = order.global_batch_size // (world_size * micro_batch_size)
        assert self.accumulation * world_size * micro_batch_size == order.global_batch_size

    def __len__(self) -> int:
        return self.order.max_steps * self.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        wide = self.world_size * self.micro_batch_size
        for rows in self.order.steps():
            if self.lengths is not None and self.accumulation * self.world_size > 1:
                lengths = self.lengths
                rows = sorted(rows, key=lambda row: (-int(lengths[row]), row))
            rows = rows + [FILLER] * (self.order.global_batch_size - len(rows))
            for first in range(0, len(rows), wide):
                yield rows[first + self.rank : first + wide : self.world_size]
