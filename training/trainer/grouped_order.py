"""Sample order of methods that answer each prompt several times (GRPO, RLOO).

The answers to one prompt form a group, and advantages are computed within a group, so a step must
hold complete groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch.utils.data import Sampler

from training.trainer.sample_order import SampleOrder


@dataclass(frozen=True)
class GroupedOrder(SampleOrder):
    """Sample order that repeats each row `answers` times in succession.

    `global_batch_size` and `total_rows` count answers. Every step is full: the last step of a run
    measured in epochs takes its missing prompts from the next epoch.

    Attributes:
        answers: Answers to each prompt; divides `global_batch_size`.
    """

    answers: int = 1

    @classmethod
    def from_order(cls, order: SampleOrder, answers: int, *, by_epochs: bool) -> GroupedOrder:
        """Return `order` with each row repeated.

        Args:
            order: Order of the prompts.
            answers: Answers to each prompt.
            by_epochs: Whether the run's length is given in epochs rather than in steps.
        """
        size, total = order.global_batch_size, order.total_rows
        if by_epochs:
            total = math.ceil(total * answers / size) * size
        return cls(order.num_rows, size, total, order.seed, order.shuffle, answers)

    @property
    def steps_per_epoch(self) -> float:
        """Optimizer steps in one pass over the prompts; possibly fractional."""
        return self.num_rows * self.answers / self.global_batch_size

    def epoch_at(self, step: int) -> float:
        """Return how many times the prompts have been seen after `step` optimizer steps."""
        return step * self.global_batch_size / (self.num_rows * self.answers)

    def steps(self, start: int = 0) -> Iterator[list[int]]:
        """Yield the rows of each optimizer step from step `start`, each `answers` times."""
        prompts = self.global_batch_size // self.answers
        prompt_order = SampleOrder(
            self.num_rows, prompts, self.max_steps * prompts, self.seed, self.shuffle
        )
        for rows in prompt_order.steps(start):
            yield [row for row in rows for _ in range(self.answers)]


class GroupedBatchSampler(Sampler[list[int]]):
    """Micro-batches of one process, which takes one contiguous slice of each step's rows.

    The slices of all processes, concatenated in the order of ranks, hold complete groups: TRL
    gathers rewards in that order to compute advantages.

    Args:
        order: Order of the rows.
        rank: Rank of this process.
        world_size: Number of processes.
        micro_batch_size: Rows per device at once.
    """

    def __init__(self, order: SampleOrder, *, rank: int, world_size: int, micro_batch_size: int):
        self.order = order
        self.rank = rank
        self.rows_per_process = order.global_batch_size // world_size
        self.micro_batch_size = micro_batch_size
        assert self.rows_per_process % micro_batch_size == 0
        assert self.rows_per_process * world_size == order.global_batch_size

    def __len__(self) -> int:
        return self.order.max_steps * self.rows_per_process // self.micro_batch_size

    def __iter__(self) -> Iterator[list[int]]:
        size = self.micro_batch_size
        for rows in self.order.steps():
            first = self.rank * self.rows_per_process
            for start in range(first, first + self.rows_per_process, size):
                yield rows[start : start + size]
