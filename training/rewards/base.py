"""Reward interface, and its base class for answers scored one by one.

Nothing here, nor in the rewards that need no package, imports a third-party package: the same files
score answers in a Lambda function (`launch.managed.graders`).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from training.data.readers.records import abbreviate
from training.data.schema.column_names import SPELLINGS, column_key
from training.data.schema.rows import Message, PromptRow

if TYPE_CHECKING:
    from training.config.rewards import RewardSection
    from training.rewards.context import RewardContext

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


def build_reward(section: RewardSection, context: RewardContext | None) -> Reward:
    """Return the reward that a job's section describes.

    Args:
        section: Section of the reward.
        context: Resources of the run; None for a reward that needs only the answer and its row.
    """
    module, _, name = section.impl.partition(":")
    reward: Reward = getattr(importlib.import_module(module), name)(section, context)
    return reward
