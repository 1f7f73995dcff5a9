"""What a rollout comes to in numbers, and a few of its answers to read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from training.methods.ppo.kl_controller import k1, k3
from training.methods.ppo.rollout import Transition
from training.methods.ppo.stop_rules import repetition

ANSWERS = "answers.jsonl"
_KEPT = 4
"""Answers kept of each rollout and of each look at held-out prompts."""


def rollout_facts(experiences: Sequence[Transition]) -> dict[str, float]:
    """Return the means over the answers, as they are logged.

    `reward` and its spread; `reward_NAME` for each part of it; `kl` (k1) and `kl_k3`, nats an
    answer; `kl_token`, nats a token; `entropy`, nats a token; `answer_tokens`; `ended`, the share
    that ended by itself; `repetition`.
    """
    count = len(experiences)
    scores = torch.tensor([e.score for e in experiences], dtype=torch.float64)
    tokens = sum(len(e.answer_ids) for e in experiences)
    straying = sum(float(k1(e.old, e.reference).double().sum()) for e in experiences)
    facts = {
        "reward": float(scores.mean()),
        "reward_std": float(scores.std(correction=0)),
        "reward_min": float(scores.min()),
        "reward_max": float(scores.max()),
        "kl": straying / count,
        "kl_k3": sum(float(k3(e.old, e.reference).double().sum()) for e in experiences) / count,
        "kl_token": straying / tokens,
        "entropy": sum(float(e.entropy.double().sum()) for e in experiences) / tokens,
        "answers": float(count),
        "answer_tokens": tokens / count,
        "ended": sum(e.ended for e in experiences) / count,
        "repetition": sum(repetition(e.answer_ids) for e in experiences) / count,
    }
    if len(experiences[0].parts) > 1:
        for name in experiences[0].parts:
            facts[f"reward_{name}"] = sum(e.parts[name] for e in experiences) / count
    return facts


class RolloutLog:
    """Writes some answers to `answers.jsonl`, for people to read.

    Args:
        folder: The run folder.
        writes: Whether this process does.
    """

    def __init__(self, folder: Path, writes: bool):
        self._path = folder / ANSWERS
        self._writes = writes
        self._held: list[Transition] = []

    def add(self, step: int, said: Sequence[Transition]) -> None:
        """Write the first answers of a rollout.

        Args:
            step: Optimizer steps done before it.
            said: Answers.
        """
        self._write(step, said[:_KEPT], held_out=False)

    def hold(self, said: Sequence[Transition]) -> None:
        """Remember answers to held-out prompts until all are in."""
        self._held += said[: _KEPT - len(self._held)]

    def held_out(self, step: int) -> None:
        """Write what was held."""
        self._write(step, self._held, held_out=True)
        self._held = []

    def forget_after(self, step: int) -> None:
        """Drop what was said after `step`: a resume says it again."""
        if not (self._writes and self._path.exists()):
            return
        lines = self._path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _precedes(line, step)]
        building = self._path.with_suffix(".writing")
        building.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        building.replace(self._path)

    def _write(self, step: int, said: Sequence[Transition], *, held_out: bool) -> None:
        if not self._writes:
            return
        with self._path.open("a", encoding="utf-8") as file:
            for one in said:
                row = {
                    "step": step,
                    "held_out": held_out,
                    "prompt": one.prompt,
                    "answer": one.text,
                    "reward": one.score,
                    "kl": float(k1(one.old, one.reference).double().sum()),
                    "ended": one.ended,
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _precedes(line: str, step: int) -> bool:
    """Whether what a line tells came before the checkpoint of `step` was written."""
    try:
        row = json.loads(line)
        return bool(row["step"] <= step if row["held_out"] else row["step"] < step)
    except (ValueError, KeyError):
        return False
