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

PADDING_INDEX = -1
"""Stands for a row without tokens, where the last step has fewer rows than the others."""


@dataclass(frozen=True)
class SampleOrder:
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
    def for_run(
        cls,
        num_rows: int,
        *,
        global_batch_size: int,
        epochs: float,
        max_steps: int | None,
        seed: int,
        shuffle: bool,
    ) -> SampleOrder:
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


@dataclass(frozen=True)
class RolloutOrder(SampleOrder):
    """A line of rows taken a round at a time, each round gone through several times.

    A method that answers prompts takes `round_rows` of them, and learns from the answers in
    `passes` passes of steps of `global_batch_size`. `total_rows` counts a row at each pass.

    Attributes:
        round_rows: Rows of a round, a multiple of `global_batch_size`.
        passes: How often a round is gone through, each time in another order.
    """

    round_rows: int = 0
    passes: int = 1

    @classmethod
    def from_order(
        cls, order: SampleOrder, round_rows: int, passes: int, *, by_epochs: bool
    ) -> RolloutOrder:
        """Return `order` as one that is taken in rounds.

        Args:
            order: Which rows, and for how long.
            round_rows: Rows of a round.
            passes: How often a round is gone through.
            by_epochs: Whether to end with a whole round, and not after the steps of `order`.
        """
        total = order.total_rows
        if by_epochs:
            total = math.ceil(total / round_rows) * round_rows * passes
        size, seed = order.global_batch_size, order.seed
        return cls(order.num_rows, size, total, seed, order.shuffle, round_rows, passes)

    @property
    def steps_per_round(self) -> int:
        """Optimizer steps from one round to the next."""
        return self.passes * self.round_rows // self.global_batch_size

    @property
    def steps_per_epoch(self) -> float:
        """Optimizer steps in which every row comes up in one round; maybe not a whole number."""
        return self.num_rows * self.passes / self.global_batch_size

    def epoch_at(self, step: int) -> float:
        """Return how often the rows have been taken after `step` optimizer steps."""
        return min(step * self.global_batch_size, self.total_rows) / (self.num_rows * self.passes)

    def round_at(self, step: int) -> int:
        """Return the round that step `step`, counted from 0, learns from."""
        return step // self.steps_per_round

    def rows_in_round(self, number: int) -> list[int]:
        """Return the rows of a round, in their places."""
        first = number * self.round_rows
        epochs: dict[int, npt.NDArray[np.int64]] = {}
        rows = []
        for position in range(first, first + self.round_rows):
            epoch, at = divmod(position, self.num_rows)
            if epoch not in epochs:
                epochs[epoch] = self.epoch_rows(epoch)
            rows.append(int(epochs[epoch][at]))
        return rows

    def positions_at(self, step: int) -> list[int]:
        """Return the places within its round that step `step` learns from."""
        number, within = divmod(step, self.steps_per_round)
        pass_, part = divmod(within, self.round_rows // self.global_batch_size)
        # Told apart from the shuffle of an epoch, which is seeded by two numbers.
        order = np.random.default_rng([self.seed, number, pass_]).permutation(self.round_rows)
        first = part * self.global_batch_size
        return [int(place) for place in order[first : first + self.global_batch_size]]

    def steps(self, start: int = 0) -> Iterator[list[int]]:
        """Yield the rows of each optimizer step, from step `start` on."""
        for step in range(start, self.max_steps):
            rows = self.rows_in_round(self.round_at(step))
            yield [rows[place] for place in self.positions_at(step)]


class MicroBatchSampler(Sampler[list[int]]):
    """The micro-batches of one process, in order, for the whole run.

    Within one optimizer step rows are sorted by length and dealt out so that the rows of a
    micro-batch, over all processes, are of like length: less padding, and no process waits for
    another. The step's gradient is a mean over its tokens and does not depend on the dealing.
    """

    def __init__(
        self,
        order: SampleOrder,
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
            rows = rows + [PADDING_INDEX] * (self.order.global_batch_size - len(rows))
            for first in range(0, len(rows), wide):
                yield rows[first + self.rank : first + wide : self.world_size]
