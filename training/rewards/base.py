"""What a reward is: a name, and a number for each answer."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from training.config.rewards import RewardSection
from training.data.schema.rows import Message, PromptRow
from training.run_folder import RunFolder
from training.trainer.context import TrainerContext

Prompt = str | list[Message]


class Reward(Protocol):
    """How good answers are, in one respect."""

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        """Return a number for each answer, higher for better.

        Args:
            prompts: What was answered.
            completions: The answers, decoded, without what ends them.
            rows: Where the prompts came from: `reference` is the right answer where there is one,
                `columns` everything else that stood in the record.
        """


@dataclass(frozen=True)
class RewardContext:
    """Where a reward works.

    Attributes:
        device: Where a reward model computes.
        folder: The run folder, for what is kept between steps.
        cache: Keeps what a judge said between runs; the run folder does where it is None.
        max_cost_usd: What a judge's calls may come to in this run; None for any sum.
        policy: The model that is trained, where a reward model may use its backbone.
    """

    device: torch.device
    folder: Path
    cache: Path | None = None
    max_cost_usd: float | None = None
    policy: Any = None

    @classmethod
    def of(cls, setup: TrainerContext, policy: Any = None) -> RewardContext:
        """Return where the rewards of a run work."""
        cost, cache = setup.job.resources.max_cost, RunFolder(setup.folder).cache
        return cls(setup.world.device, setup.folder, cache, cost, policy)


def make(section: RewardSection, place: RewardContext) -> Reward:
    """Return the reward that a job's section describes."""
    module, _, name = section.impl.partition(":")
    reward: Reward = getattr(importlib.import_module(module), name)(section, place)
    return reward
