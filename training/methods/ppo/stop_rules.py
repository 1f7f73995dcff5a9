"""Signs that a policy games its reward or falls apart, each a reason to stop.

Every rule looks at means over a rollout; see `training.config.ppo.StopRules` for what each says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from training.config.ppo import Ppo
from training.errors import GuardError

_NGRAM = 4
_STRAYED_FURTHER = 1.25
_SURE = 2.0
"""Standard errors by which a fall of the reward must exceed chance."""


class DivergenceMonitor:
    """Looks at each rollout's facts and raises when a rule is broken.

    Args:
        method: The job's section.
    """

    def __init__(self, method: Ppo):
        self.method = method
        self.seen: list[tuple[float, float, float]] = []

    def look(self, facts: dict[str, float], step: int) -> None:
        """Raise when this rollout breaks a rule.

        Args:
            facts: Its means, as they are logged.
            step: The optimizer step that learns from it first, for the message.

        Raises:
            GuardError: Names every broken rule, its value, and what would help.
        """
        window = _set(self.method.stop.reward_decline_window)
        error = facts["reward_std"] / max(1.0, facts["answers"]) ** 0.5
        self.seen = [*self.seen, (facts["reward"], facts["kl"], error)][-int(window or 1) :]
        broken = [*self._broken(facts), *self._falling()]
        if broken:
            raise GuardError(
                f"the rollout before step {step} shows a policy gone wrong: {'; '.join(broken)}. "
                f"Its reward is {facts['reward']:.3g} at {facts['kl']:.3g} nats an answer from the "
                f"reference. Earlier checkpoints are intact, and answers.jsonl shows what it says. "
                f"A lower learning rate, a higher kl.coefficient or a lower kl.target would help; "
                f"method.stop sets these rules"
            )

    def _broken(self, facts: dict[str, float]) -> Iterator[str]:
        stop, ceiling = self.method.stop, self.method.kl.stops_at
        rules = (
            ("kl", None, ceiling, "nats an answer from the reference", "kl.ceiling"),
            (
                "answer_tokens",
                stop.min_answer_tokens,
                None,
                "tokens an answer",
                "min_answer_tokens",
            ),
            (
                "answer_tokens",
                None,
                stop.max_answer_tokens,
                "tokens an answer",
                "max_answer_tokens",
            ),
            ("ended", stop.min_ended, None, "of the answers end by themselves", "min_ended"),
            (
                "repetition",
                None,
                stop.max_repetition,
                "of each answer repeats it",
                "max_repetition",
            ),
            ("entropy", stop.min_entropy, None, "nats of entropy a token", "min_entropy"),
        )
        for name, least, most, words, key in rules:
            value, low, high = facts[name], _set(least), _set(most)
            if low is not None and value < low:
                yield f"{value:.3g} {words} (method.stop.{key}: {low:g})"
            if high is not None and value > high:
                section = "method." if key.startswith("kl.") else "method.stop."
                yield f"{value:.3g} {words} ({section}{key}: {high:g})"

    def _falling(self) -> Iterator[str]:
        """Look for nats that are spent and buy nothing."""
        window = int(_set(self.method.stop.reward_decline_window) or 0)
        if len(self.seen) < window or window < 4:
            return
        half = window // 2
        before, after = _means(self.seen[:half]), _means(self.seen[half:])
        chance = _SURE * (before[2] + after[2]) / half**0.5
        if after[0] < before[0] - chance and after[1] > _STRAYED_FURTHER * before[1]:
            yield (
                f"over {window} rollouts the reward fell from {before[0]:.3g} to {after[0]:.3g} "
                f"while the policy strayed from {before[1]:.3g} to {after[1]:.3g} nats an answer "
                f"(method.stop.reward_decline_window: {window})"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know to stop at the same step."""
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.seen = [(float(r), float(k), float(e)) for r, k, e in state["seen"]]


def repetition(ids: Sequence[int]) -> float:
    """Return the share of an answer's 4-grams that stood in it before."""
    grams = [tuple(ids[at : at + _NGRAM]) for at in range(len(ids) - _NGRAM + 1)]
    return 1 - len(Counter(grams)) / len(grams) if grams else 0.0


def _set(limit: float | str | None) -> float | None:
    """Return a limit, or None where the job has switched it off."""
    return None if limit is None or isinstance(limit, str) else limit


def _means(rows: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    reward, kl, error = (sum(column) / len(rows) for column in zip(*rows, strict=True))
    return reward, kl, error
