"""Weighted sum of a job's rewards; every reward is also logged by itself.

A reward that is NaN or infinite stops the run at once. A reward that is the same for every answer,
over many consecutive steps, has no learning signal and stops it too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.data.schema.rows import PromptRow
from training.errors import GuardError
from training.rewards.base import Prompt, Reward, build_reward

if TYPE_CHECKING:
    from training.config.rewards import RewardSection
    from training.rewards.context import RewardContext

PATIENCE = 20
"""Consecutive steps in which every answer may get the same reward."""


@dataclass(frozen=True)
class RewardScores:
    """Scores of a batch of answers.

    Attributes:
        total: Weighted sum for each answer.
        each: Unweighted scores for each answer, by the name of the reward.
    """

    total: list[float]
    each: dict[str, list[float]]


@dataclass
class CompositeReward:
    """Weighted sum of a job's rewards.

    Attributes:
        names: Names of the rewards: their kinds, numbered if a kind occurs twice.
        rewards: The rewards.
        weights: Weight of each reward in the sum.
        constant_steps: Consecutive steps so far in which every answer got the same reward.
    """

    names: list[str]
    rewards: list[Reward]
    weights: list[float]
    constant_steps: int = 0

    @classmethod
    def from_sections(
        cls, sections: Sequence[RewardSection], context: RewardContext | None
    ) -> CompositeReward:
        """Return the sum of the rewards that a job names.

        Args:
            sections: Sections of the rewards.
            context: Resources of the run; None if each reward needs only the answer and its row.
        """
        kinds = [str(section.kind) for section in sections]  # type: ignore[attr-defined]  # all have
        occurrences, seen = Counter(kinds), Counter[str]()
        names = []
        for kind in kinds:
            seen[kind] += 1
            names.append(f"{kind}_{seen[kind]}" if occurrences[kind] > 1 else kind)
        rewards = [build_reward(section, context) for section in sections]
        return cls(names, rewards, [section.weight for section in sections])

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> RewardScores:
        """Return the scores of a batch of answers.

        Args:
            prompts: The prompt of each answer.
            completions: The answers, decoded.
            rows: The row of each prompt.

        Raises:
            GuardError: A reward is NaN or infinite.
        """
        each: dict[str, list[float]] = {}
        total = [0.0] * len(completions)
        for name, reward, weight in zip(self.names, self.rewards, self.weights, strict=True):
            values = [float(value) for value in reward.score(prompts, completions, rows)]
            assert len(values) == len(completions), name
            for value, answer, row in zip(values, completions, rows, strict=True):
                if not math.isfinite(value):
                    raise GuardError(
                        f"reward {name} is {value} for the answer {answer[:80]!r} to {row.id}. A "
                        f"reward must be finite for every answer: fix it, or remove it from the job"
                    )
            each[name] = values
            total = [so_far + weight * value for so_far, value in zip(total, values, strict=True)]
        return RewardScores(total, each)

    def check_varies(self, lowest: float, highest: float, step: int, steps: int = 1) -> None:
        """Stop a run whose reward is the same whatever the model answers.

        Args:
            lowest: Lowest reward of the step, over the answers of all processes.
            highest: Highest reward of the step, over the answers of all processes.
            step: Optimizer step, for the message.
            steps: Optimizer steps that learn from these answers.

        Raises:
            GuardError: The reward has not varied for `PATIENCE` steps.
        """
        # A single PPO rollout may serve more than `PATIENCE` steps. It counts for a quarter at
        # most, so that at least four constant rollouts in a row are needed to stop the run.
        counted = min(steps, PATIENCE // 4)
        self.constant_steps = self.constant_steps + counted if lowest == highest else 0
        if self.constant_steps >= PATIENCE:
            raise GuardError(
                f"in each of the last {self.constant_steps} steps (up to step {step}) every answer "
                f"got the same reward, now {lowest:g}: there is nothing to learn from it. The "
                f"rewards are {', '.join(self.names)}. Use easier prompts, a reward that "
                f"distinguishes answers, or a higher rollout.temperature"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs to stop at the same step."""
        return {"same_for": self.constant_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.constant_steps = int(state["same_for"])
