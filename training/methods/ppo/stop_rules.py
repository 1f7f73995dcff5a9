"""Rules that stop a run whose policy exploits its reward or degenerates.

Every rule is checked on the means over a rollout; `training.config.ppo.StopRules` describes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from training.config.ppo import Ppo
from training.errors import GuardError

_KL_GROWTH = 1.25
"""Factor by which the KL must have grown for a falling reward to count."""
_STANDARD_ERRORS = 2.0
"""Standard errors by which a fall of the reward must exceed chance."""


class DivergenceMonitor:
    """Monitor that checks the metrics of each rollout and stops the run if a rule is broken.

    Args:
        method: Section of the job.

    Attributes:
        history: Reward, KL and standard error of the reward of the last rollouts.
    """

    def __init__(self, method: Ppo):
        self.method = method
        self.history: list[tuple[float, float, float]] = []

    def check(self, metrics: dict[str, float], step: int) -> None:
        """Stop the run if a rollout breaks a rule.

        Args:
            metrics: Means over the rollout, as they are logged.
            step: First optimizer step that trains on it, for the message.

        Raises:
            GuardError: Some rules are broken; the message names each, its value, and the fix.
        """
        window = _limit(self.method.stop.reward_decline_window)
        error = metrics["reward_std"] / max(1.0, metrics["answers"]) ** 0.5
        entry = (metrics["reward"], metrics["kl"], error)
        self.history = [*self.history, entry][-int(window or 1) :]
        broken = [*self._broken_limits(metrics), *self._reward_decline()]
        if broken:
            raise GuardError(
                f"the rollout before step {step} shows a degenerate policy: {'; '.join(broken)}. "
                f"Its reward is {metrics['reward']:.3g} at {metrics['kl']:.3g} nats an answer from "
                f"the reference. Earlier checkpoints are intact, and answers.jsonl has its "
                f"answers. Lower the learning rate or kl.target, or raise kl.coefficient; "
                f"method.stop sets these rules"
            )

    def _broken_limits(self, metrics: dict[str, float]) -> Iterator[str]:
        stop, ceiling = self.method.stop, self.method.kl.stops_at
        tokens = "tokens an answer"
        # Metric, lowest value, highest value, description, key in the job.
        rules = (
            ("kl", None, ceiling, "nats an answer from the reference", "kl.ceiling"),
            ("answer_tokens", stop.min_answer_tokens, None, tokens, "stop.min_answer_tokens"),
            ("answer_tokens", None, stop.max_answer_tokens, tokens, "stop.max_answer_tokens"),
            ("ended", stop.min_ended, None, "of the answers end by themselves", "stop.min_ended"),
            ("repetition", None, stop.max_repetition, "of each answer repeats it",
             "stop.max_repetition"),
            ("entropy", stop.min_entropy, None, "nats of entropy a token", "stop.min_entropy"),
        )  # fmt: skip
        for name, lowest, highest, description, key in rules:
            value, low, high = metrics[name], _limit(lowest), _limit(highest)
            if low is not None and value < low:
                yield f"{value:.3g} {description} (method.{key}: {low:g})"
            if high is not None and value > high:
                yield f"{value:.3g} {description} (method.{key}: {high:g})"

    def _reward_decline(self) -> Iterator[str]:
        """Detect a reward that falls while the KL grows, between the halves of the window."""
        window = int(_limit(self.method.stop.reward_decline_window) or 0)
        if len(self.history) < window or window < 4:
            return
        half = window // 2
        reward_before, kl_before, error_before = _means(self.history[:half])
        reward_after, kl_after, error_after = _means(self.history[half:])
        chance = _STANDARD_ERRORS * (error_before + error_after) / half**0.5
        if reward_after < reward_before - chance and kl_after > _KL_GROWTH * kl_before:
            yield (
                f"over {window} rollouts the reward fell from {reward_before:.3g} to "
                f"{reward_after:.3g} while the KL from the reference grew from {kl_before:.3g} to "
                f"{kl_after:.3g} nats an answer (method.stop.reward_decline_window: {window})"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs to stop at the same step."""
        return {"seen": self.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.history = [(float(r), float(k), float(e)) for r, k, e in state["seen"]]


def _limit(limit: float | str | None) -> float | None:
    """Return a limit, or None if the job has disabled it."""
    return None if limit is None or isinstance(limit, str) else limit


def _means(rows: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    reward, kl, error = (sum(column) / len(rows) for column in zip(*rows, strict=True))
    return reward, kl, error
