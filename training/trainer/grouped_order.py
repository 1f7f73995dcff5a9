"""Prompts that are answered several times in one step: the answers of a prompt form a group."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch.utils.data import Sampler

from training.trainer.sample_order import SampleOrder


@dataclass(frozen=True)
class GroupedOrder(SampleOrder):
    """A line in which each row stands several times in a row; a step takes whole groups.

    `global_batch_size` and `total_rows` count answers. Every step is full: the last one of a run
    that lasts so many epochs takes its missing prompts from the next.

    Attributes:
        answers: How often each row stands there; divides `global_batch_size`.
    """

    answers: int = 1

    @classmethod
    def from_order(cls, order: SampleOrder, answers: int, *, by_epochs: bool) -> GroupedOrder:
        """Return `order` as one whose rows are answered several times.

        Args:
            order: Which rows, and for how long.
            answers: To each.
            by_epochs: Whether `order` lasts for its rows, and not for its steps.
        """
        size, total = order.global_batch_size, order.total_rows
        if by_epochs:
            total = math.ceil(total * answers / size) * size
        return cls(order.num_rows, size, total, order.seed, order.shuffle, answers)

    @property
    def steps_per_epoch(self) -> float:
        """Optimizer steps in one pass over the prompts; not necessarily a whole number."""
        return self.num_rows * self.answers / self.global_batch_size

    def epoch_at(self, step: int) -> float:
        """Return how often the prompts have been seen after `step` optimizer steps."""
        return step * self.global_batch_size / (self.num_rows * self.answers)

    def steps(self, start: int = 0) -> Iterator[list[int]]:
        """Yield the rows of each optimizer step, from step `start` on, each `answers` times."""
        prompts = self.global_batch_size // self.answers
        line = SampleOrder(
            self.num_rows, prompts, self.max_steps * prompts, self.seed, self.shuffle
        )
        for rows in line.steps(start):
            yield [row for row in rows for _ in range(self.answers)]


class GroupedBatchSampler(Sampler[list[int]]):
    """The micro-batches of one process, each process taking one stretch of a step's line.

    Put one behind the other, the stretches of all processes hold every group together.
    """

    def __init__(self, order: SampleOrder, *, rank: int, world_size: int, micro_batch_size: int):
        self.order = order
        self.rank = rank
        self.mine = order.global_batch_size // world_size
        self.micro_batch_size = micro_batch_size
        assert self.mine % micro_batch_size == 0
        assert self.mine * world_size == order.global_batch_size

    def __len__(self) -> int:
        return self.order.max_steps * self.mine // self.micro_batch_size

    def __iter__(self) -> Iterator[list[int]]:
        size = self.micro_batch_size
        for rows in self.order.steps():
            first = self.rank * self.mine
            for start in range(first, first + self.mine, size):
                yield rows[start : start + size]
