"""Reward interface, its base class for answers scored one by one, and the context of a run."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from training.config.rewards import RewardSection
from training.data.readers.records import abbreviate
from training.data.schema.column_names import SPELLINGS, column_key
from training.data.schema.rows import Message, PromptRow
from training.run_folder import RunFolder
from training.trainer.context import TrainerContext

Prompt = str | list[Message]


class Reward(Protocol):
    """Interface of a function that scores answers by one criterion."""

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        """Return the score of each answer; higher is better.

        Args:
            prompts: The prompt of each answer.
            completions: The answers, decoded, without end-of-text tokens.
            rows: The row of each prompt: `reference` is the right answer if the data has one,
                `columns` holds the other columns of the record.
        """


class PerAnswerReward:
    """Base class of rewards that score each answer from its text and its row alone."""

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        """Return the score of each answer.

        Args:
            prompts: The prompt of each answer; not used.
            completions: The answers, decoded.
            rows: The row of each prompt.
        """
        return [self.score_answer(text, row) for text, row in zip(completions, rows, strict=True)]

    def score_answer(self, answer: str, row: PromptRow) -> float:
        """Return the score of one answer."""
        raise NotImplementedError


def reference_fix(row: PromptRow) -> str:
    """Return the fix for a row whose reference a reward cannot use, for an error message.

    Args:
        row: The row.
    """
    name = "data.train.columns: {reference: YOUR_COLUMN}"
    lists = {column: value for column, value in row.columns.items() if isinstance(value, list)}
    spelled = [column for column in lists if column_key(column) in SPELLINGS["reference"]]
    column = next(iter([*spelled, *lists]), None)
    if row.reference or column is None:
        return f"Name the column that holds the right answer: {name}"
    return (
        f"Column {column} holds a list of {len(lists[column])} answers "
        f"({abbreviate(lists[column])}), and it is not known whether each of them is right or only "
        f"all together. Write the right answer as text, or as a list of one, or name another "
        f"column: {name}"
    )


@dataclass(frozen=True)
class RewardContext:
    """Resources of the run that a reward may use.

    Attributes:
        device: Device of a reward model.
        folder: Run folder, for files that persist between steps.
        cache: Folder of judges' replies that runs share; the run folder is used if it is None.
        max_cost_usd: Limit for the cost of a judge's calls in this run; None for no limit.
        policy: Model in training, if a reward model may use its backbone.
    """

    device: torch.device
    folder: Path
    cache: Path | None = None
    max_cost_usd: float | None = None
    policy: Any = None

    @classmethod
    def from_trainer_context(cls, setup: TrainerContext, policy: Any = None) -> RewardContext:
        """Return the resources of a training run."""
        cost, cache = setup.job.resources.max_cost, RunFolder(setup.folder).cache
        return cls(setup.world.device, setup.folder, cache, cost, policy)


def build_reward(section: RewardSection, context: RewardContext) -> Reward:
    """Return the reward that a job's section describes."""
    module, _, name = section.impl.partition(":")
    reward: Reward = getattr(importlib.import_module(module), name)(section, context)
    return reward
