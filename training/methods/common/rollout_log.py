"""Log of some sampled answers, for people to read and for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.methods.common.json_lines import JsonLinesFile
from training.rewards.base import Prompt

ANSWERS = "answers.jsonl"


@dataclass(frozen=True)
class LoggedAnswer:
    """Answer as it is written to the log.

    Attributes:
        prompt: Prompt as its row has it.
        answer: Decoded answer.
        reward: Reward of the answer.
        kl: Estimate of the KL divergence from the reference, in nats; None if not computed.
        ended: True if the answer ended with an end token.
    """

    prompt: Prompt
    answer: str
    reward: float
    kl: float | None
    ended: bool


class RolloutLog:
    """Log of answers in `answers.jsonl`, which a resume truncates to the steps before it.

    Args:
        folder: Run folder.
        enabled: True on the process that writes; on others every call does nothing.
    """

    def __init__(self, folder: Path, enabled: bool):
        self._file = JsonLinesFile(folder / ANSWERS)
        self._enabled = enabled

    def append(self, step: int, answers: Sequence[LoggedAnswer], *, held_out: bool = False) -> None:
        """Write answers.

        Args:
            step: Optimizer steps done before the answers were sampled.
            answers: The answers.
            held_out: True for answers to held-out prompts.
        """
        if self._enabled:
            self._file.append(
                [{"step": step, "held_out": held_out, **asdict(answer)} for answer in answers]
            )

    def truncate(self, step: int) -> None:
        """Drop the answers that a run resumed after `step` steps samples again."""
        if self._enabled and self._file.path.exists():
            self._file.rewrite([row for row in self._file.read() if _is_before(row, step)])


def _is_before(row: dict[str, Any], step: int) -> bool:
    """Return True if a row was written before the checkpoint of `step` was saved.

    Held-out answers of a step are sampled before its checkpoint is saved, training answers of the
    same step number after it.
    """
    return bool(row["step"] <= step if row["held_out"] else row["step"] < step)
