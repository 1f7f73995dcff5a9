"""Results of a reinforcement learning run: reward, KL divergence and sampled answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from training.report.comparison import Comparison
from training.report.formatting import change, number, percent
from training.report.run_data import RunData

_MOMENTS = 4
"""Times at which sampled answers are shown, spread over the run."""
_SHARES = ("ended", "repetition")
"""Measures shown in percent."""


@dataclass(frozen=True)
class Snapshot:
    """Answers that the policy sampled at one step.

    Attributes:
        step: Optimizer steps done.
        held_out: True if the prompts were held out.
        answers: Rows of `answers.jsonl`.
    """

    step: int
    held_out: bool
    answers: list[dict[str, Any]]


def is_rewarded(run_data: RunData) -> bool:
    """Return True if a run is trained by reinforcement learning."""
    return any("reward" in row for row in run_data.steps)


def headline(run_data: RunData) -> str:
    """Return a sentence on the change of the reward and the KL divergence from the reference."""
    rewards = _rollouts(run_data, "reward")
    share = max(1, len(rewards) // 10)
    before, after = _mean(rewards[:share]), _mean(rewards[-share:])
    verb = "rose" if after > before else "fell" if after < before else "did not change: it went"
    sentence = f"Reward {verb} from {number(before, 2)} to {number(after, 2)}"
    if kl := _rollouts(run_data, "kl"):
        sentence += f", at a KL divergence of {number(_mean(kl[-share:]), 1)} nats per completion"
    return sentence


def comparisons(before: dict[str, Any], after: dict[str, Any]) -> list[Comparison]:
    """Return the measures of the answers to held-out prompts, before and after training."""
    names = {
        "reward": "reward",
        "kl": "KL from the reference (nats per completion)",
        "answer_tokens": "tokens per completion",
        "ended": "completions that end with EOS",
        "repetition": "repeated 4-grams in a completion",
    }
    rows = []
    for key, name in names.items():
        was, now = before.get(key), after.get(key)
        if was is None and now is None:
            continue
        shown = percent if key in _SHARES else _two_digits
        verdict = ""
        if key == "reward" and isinstance(was, float) and isinstance(now, float):
            verdict = "better" if now > was else "worse" if now < was else "same"
        rows.append(
            Comparison(
                f"Held-out prompts: {name}",
                shown(was),
                shown(now),
                "" if key in _SHARES else change(was, now),
                verdict,
            )
        )
    return rows


def _two_digits(value: Any) -> str:
    return number(value, 2)


def snapshots(run_data: RunData) -> list[Snapshot]:
    """Return the sampled answers at a few steps, the first and the last included.

    These are answers to held-out prompts if there are any, else those of the rollouts.
    """
    held_out = any(row.get("held_out") for row in run_data.rollout_answers)
    rows = [row for row in run_data.rollout_answers if bool(row.get("held_out")) == held_out]
    steps = sorted({int(row["step"]) for row in rows})
    last = len(steps) - 1
    shown = sorted({steps[round(i * last / (_MOMENTS - 1))] for i in range(_MOMENTS) if steps})
    return [Snapshot(s, held_out, [row for row in rows if row["step"] == s]) for s in shown]


def prompt_text(row: dict[str, Any]) -> str:
    """Return a prompt as text; for a conversation, its last message."""
    prompt = row.get("prompt", "")
    if isinstance(prompt, list):
        return str(prompt[-1].get("content", "")) if prompt else ""
    return str(prompt)


def frontier(run_data: RunData) -> tuple[list[float], list[float], list[float]]:
    """Return the KL divergence, reward and step of each rollout."""
    rows = _first_steps(run_data)
    points = [(row["kl"], row["reward"], row["step"]) for row in rows if "kl" in row]
    kept = [point for point in points if all(math.isfinite(value) for value in point)]
    kl, reward, step = zip(*kept, strict=True) if kept else ((), (), ())
    return list(kl), list(reward), list(step)


def _rollouts(run_data: RunData, name: str) -> list[float]:
    values = [row.get(name) for row in _first_steps(run_data)]
    return [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]


def _first_steps(run_data: RunData) -> list[dict[str, Any]]:
    """Return the first logged step of each rollout.

    Several optimizer steps are taken on one rollout, and each logs the numbers of the rollout.
    """
    first_steps: list[dict[str, Any]] = []
    for row in run_data.steps:
        same = first_steps and all(
            row.get(n) == first_steps[-1].get(n) for n in ("reward", "kl", "entropy")
        )
        if not same:
            first_steps.append(row)
    return first_steps


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
