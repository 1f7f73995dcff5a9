"""What a judge is: something that replies to questions, in order.

`asked` adds what every use needs: a reply that answers nothing is asked for again, with a word on
what was wanted, and counted when it stays so.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from training.config.judges import JudgeSection
from training.data.schema.rows import Message

if TYPE_CHECKING:
    import torch

    from training.judges.local_generator import LocalGenerator

T = TypeVar("T")


class Judge(Protocol):
    """Something that replies."""

    def replies(self, questions: Sequence[list[Message]]) -> list[str]:
        """Return the reply to each conversation.

        Raises:
            RunError: It cannot be reached, or may cost no more; what was replied is kept.
        """


@dataclass(frozen=True)
class JudgeContext:
    """Where a judge works.

    Attributes:
        device: Where a local one computes.
        folder: The run folder, for what was spent.
        cache: Keeps replies between runs.
        max_cost_usd: What its calls may come to in this run; None for any sum.
        own: Gives the job's own model, for a local judge without a source of its own.
        called: What the judge is in messages.
    """

    device: torch.device
    folder: Path
    cache: Path
    max_cost_usd: float | None = None
    own: Callable[[], LocalGenerator] | None = None
    called: str = "judge"


@dataclass
class JudgeUsage:
    """How a judge's replies turned out.

    Attributes:
        asked: Questions.
        again: Replies that answered nothing and were asked for again.
        nonsense: Questions without an answer in the end.
    """

    asked: int = 0
    again: int = 0
    nonsense: int = 0


def make(section: JudgeSection, place: JudgeContext) -> Judge:
    """Return the judge that a job's section describes."""
    module, _, name = section.impl.partition(":")
    judge: Judge = getattr(importlib.import_module(module), name)(section, place)
    return judge


def ask(
    judge: Judge,
    questions: Sequence[list[Message]],
    read: Callable[[str], T | None],
    *,
    wanted: str,
    retries: int,
    count: JudgeUsage,
) -> list[T | None]:
    """Return what each reply says; None where it answers nothing, however often it is asked.

    Args:
        judge: Replies.
        questions: Conversations that end with a question.
        read: Takes the answer from a reply, or gives None.
        wanted: What is said to a judge that answered nothing.
        retries: How often it is asked again.
        count: Is added to.
    """
    found: list[T | None] = [None] * len(questions)
    open_: dict[int, list[Message]] = dict(enumerate(questions))
    count.asked += len(questions)
    for attempt in range(retries + 1):
        if not open_:
            break
        count.again += len(open_) if attempt else 0
        replies = judge.replies(list(open_.values()))
        still: dict[int, list[Message]] = {}
        for (place, question), reply in zip(open_.items(), replies, strict=True):
            found[place] = read(reply)
            if found[place] is None:
                still[place] = [
                    *question,
                    {"role": "assistant", "content": reply},
                    {"role": "user", "content": wanted},
                ]
        open_ = still
    count.nonsense += len(open_)
    return found
