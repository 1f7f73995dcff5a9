"""The rewards of a job added up by their weights, each kept apart for the log.

A reward that is no number stops the run at once; one that is the same for every answer, for many
steps in a row, teaches nothing and stops it too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.config.rewards import RewardSection
from training.data.schema.rows import PromptRow
from training.errors import GuardError
from training.rewards.base import Prompt, Reward, RewardContext, make

PATIENCE = 20
"""Steps in a row in which every answer may get the same reward."""


@dataclass(frozen=True)
class RewardScores:
    """What answers were given.

    Attributes:
        total: The weighted sum for each answer.
        each: By name, every reward for each answer, before its weight.
    """

    total: list[float]
    each: dict[str, list[float]]


@dataclass
class CompositeReward:
    """The weighted sum of a job's rewards.

    Attributes:
        names: Of the rewards: their kinds, numbered where one kind comes twice.
        rewards: The rewards.
        weights: What each counts.
        same_for: Steps in a row in each of which all answers got the same.
    """

    names: list[str]
    rewards: list[Reward]
    weights: list[float]
    same_for: int = 0

    @classmethod
    def of(cls, sections: Sequence[RewardSection], place: RewardContext) -> CompositeReward:
        """Return the sum of the rewards that a job names."""
        kinds = [str(section.kind) for section in sections]  # type: ignore[attr-defined]  # all have
        again, seen = Counter(kinds), Counter[str]()
        names = []
        for kind in kinds:
            seen[kind] += 1
            names.append(f"{kind}_{seen[kind]}" if again[kind] > 1 else kind)
        return cls(names, [make(s, place) for s in sections], [s.weight for s in sections])

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> RewardScores:
        """Return what each answer is worth.

        Raises:
            GuardError: A reward is not a finite number.
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
                        f"reward must be a finite number for every answer: mend it, or leave it out"
                    )
            each[name] = values
            total = [so_far + weight * value for so_far, value in zip(total, values, strict=True)]
        return RewardScores(total, each)

    def watch(self, lowest: float, highest: float, step: int, steps: int = 1) -> None:
        """Stop a run whose reward is the same whatever the model answers.

        Args:
            lowest: Of all answers of the step, on every process.
            highest: Likewise.
            step: The optimizer step, for the message.
            steps: That learn from these answers.

        Raises:
            GuardError: It has been so for `PATIENCE` steps, and at least four times.
        """
        counted = min(steps, PATIENCE // 4)
        self.same_for = self.same_for + counted if lowest == highest else 0
        if self.same_for >= PATIENCE:
            raise GuardError(
                f"in each of the last {self.same_for} steps (up to step {step}) every answer got "
                f"the same reward, now {lowest:g}: there is nothing to learn from it. The rewards "
                f"are {', '.join(self.names)}. Easier prompts, a reward that tells answers apart, "
                f"or a higher rollout.temperature would help"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know to stop at the same step."""
        return {"same_for": self.same_for}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.same_for = int(state["same_for"])
