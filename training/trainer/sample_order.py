"""Sample order: the rows that each optimizer step consumes, as a pure function of the seed.

The epochs, each with its own shuffle, form one sequence of rows; optimizer step `s` consumes the
`s`-th slice of `global_batch_size` rows. The order depends neither on the number of processes nor
on the micro-batch size, and is computed from the step number without any stored state. A run can
therefore resume on other hardware and still see every row exactly as often.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

PADDING_INDEX = -1
"""Index of the padding row, which completes the last step of a run to the global batch size."""


@dataclass(frozen=True)
class SampleOrder:
    """Order of the rows of a run.

    Attributes:
        num_rows: Rows in the table.
        global_batch_size: Rows per optimizer step.
        total_rows: Rows consumed by the complete run.
        seed: Seed of the shuffles; epoch `e` is shuffled by the generator of `[seed, e]`.
        shuffle: Whether rows are shuffled.
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
        """Return the order of a run of `max_steps` steps, or of `epochs` if that is None.

        Args:
            num_rows: Rows in the table.
            global_batch_size: Rows per optimizer step.
            epochs: Passes over the data.
            max_steps: Optimizer steps; overrides `epochs`.
            seed: Seed of the shuffles.
            shuffle: Whether rows are shuffled.
        """
        total = max_steps * global_batch_size if max_steps else max(1, round(num_rows * epochs))
        return cls(num_rows, global_batch_size, total, seed, shuffle)

    @property
    def max_steps(self) -> int:
        """Optimizer steps of the complete run."""
        return math.ceil(self.total_rows / self.global_batch_size)

    @property
    def steps_per_epoch(self) -> float:
        """Optimizer steps in one pass over the data; possibly fractional."""
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
        """Yield the rows of each optimizer step, starting with step `start`."""
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
    """Sample order of PPO: rows are consumed in rollouts (rounds), and each round several times.

    A round samples answers to `round_rows` prompts, then optimizes on them in `passes` epochs of
    steps of `global_batch_size`. `total_rows` counts a row once per pass.

    Attributes:
        round_rows: Rows of a round, a multiple of `global_batch_size`.
        passes: Passes over a round (PPO epochs), each in another order.
    """

    round_rows: int = 0
    passes: int = 1

    @classmethod
    def from_order(
        cls, order: SampleOrder, round_rows: int, passes: int, *, by_epochs: bool
    ) -> RolloutOrder:
        """Return `order` divided into rounds.

        Args:
            order: Order and number of the rows.
            round_rows: Rows of a round.
            passes: Passes over a round.
            by_epochs: Whether the run's length is given in epochs; it then ends with a complete
                round rather than after the steps of `order`.
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
        """Optimizer steps after which every row was part of one round; possibly fractional."""
        return self.num_rows * self.passes / self.global_batch_size

    def epoch_at(self, step: int) -> float:
        """Return how many times the rows have been sampled after `step` optimizer steps."""
        return min(step * self.global_batch_size, self.total_rows) / (self.num_rows * self.passes)

    def round_at(self, step: int) -> int:
        """Return the round that step `step`, counted from 0, trains on."""
        return step // self.steps_per_round

    def rows_in_round(self, number: int) -> list[int]:
        """Return the rows of round `number`, in order."""
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
        """Return the positions within its round of the rows that step `step` trains on."""
        number, within = divmod(step, self.steps_per_round)
        pass_, part = divmod(within, self.round_rows // self.global_batch_size)
        # Three numbers seed this shuffle and two the shuffle of an epoch: no two streams coincide.
        order = np.random.default_rng([self.seed, number, pass_]).permutation(self.round_rows)
        first = part * self.global_batch_size
        return [int(position) for position in order[first : first + self.global_batch_size]]

    def steps(self, start: int = 0) -> Iterator[list[int]]:
        """Yield the rows of each optimizer step, starting with step `start`."""
        for step in range(start, self.max_steps):
            rows = self.rows_in_round(self.round_at(step))
            yield [rows[position] for position in self.positions_at(step)]


class MicroBatchSampler(Sampler[list[int]]):
    """Micro-batches of one process, in order, for the complete run.

    Within one optimizer step rows are sorted by length and distributed so that the rows of a
    micro-batch, over all processes, have similar lengths: less padding, and no process waits for
    another. The step's gradient is a mean over its tokens, so it does not depend on which process
    or micro-batch a row is assigned to.

    Args:
        order: Order of the rows.
        rank: Rank of this process.
        world_size: Number of processes.
        micro_batch_size: Rows per device at once.
        lengths: Tokens of each row; None leaves the rows of a step unsorted.
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
        rows_at_once = self.world_size * self.micro_batch_size
        for rows in self.order.steps():
            if self.lengths is not None and self.accumulation * self.world_size > 1:
                lengths = self.lengths
                rows = sorted(rows, key=lambda row: (-int(lengths[row]), row))
            rows = rows + [PADDING_INDEX] * (self.order.global_batch_size - len(rows))
            for first in range(0, len(rows), rows_at_once):
                # Every world_size-th row: the rows of all ranks are neighbors in length.
                yield rows[first + self.rank : first + rows_at_once : self.world_size]
