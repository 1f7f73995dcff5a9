"""Judge interface, and `ask`, which retries replies that cannot be used.

A judge is built from the job's `judge:` section by `build_judge`. Every caller that needs a value
out of a reply (a rating, a choice, a revision) goes through `ask`: a reply without such a value is
requested again with a reminder of the expected format, and is counted if it stays unusable.
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
    """Interface of a model that replies to conversations."""

    def replies(self, questions: Sequence[list[Message]]) -> list[str]:
        """Return the reply to each conversation, in order.

        Raises:
            RunError: The judge cannot be reached, or the cost limit is reached. Replies received
                before that stay cached.
        """


@dataclass(frozen=True)
class JudgeContext:
    """Resources of the run that a judge may use.

    Attributes:
        device: Device of a local judge.
        folder: Run folder, which holds the record of what was spent.
        cache: Folder of the replies that runs share.
        max_cost_usd: Limit for the cost of this run's calls; None for no limit.
        own_generator: Returns the job's own model, for a local judge that names no source.
        role: Name of the judge in messages, such as "judge" or "teacher".
        limit_key: Key of the cost limit in messages.
    """

    device: torch.device
    folder: Path
    cache: Path
    max_cost_usd: float | None = None
    own_generator: Callable[[], LocalGenerator] | None = None
    role: str = "judge"
    limit_key: str = "resources.max_cost"


@dataclass
class JudgeUsage:
    """Counts of a judge's questions and of the replies that could not be used.

    Attributes:
        questions: Questions asked.
        retries: Replies that were requested again because they could not be used.
        unusable: Questions that had no usable reply after the last retry.
    """

    questions: int = 0
    retries: int = 0
    unusable: int = 0

    def to_json(self) -> dict[str, int]:
        """Return the counts under the keys of the report files, which earlier runs have too."""
        return {"asked": self.questions, "again": self.retries, "nonsense": self.unusable}


def build_judge(section: JudgeSection, context: JudgeContext) -> Judge:
    """Return the judge that a job's section describes."""
    module, _, name = section.impl.partition(":")
    judge: Judge = getattr(importlib.import_module(module), name)(section, context)
    return judge


def ask(
    judge: Judge,
    questions: Sequence[list[Message]],
    parse: Callable[[str], T | None],
    *,
    reminder: str,
    retries: int,
    usage: JudgeUsage,
) -> list[T | None]:
    """Return the parsed reply to each question; None if no reply could be parsed.

    Args:
        judge: Replies to the questions.
        questions: Conversations that end with a question.
        parse: Extracts the value from a reply; returns None if the reply has none.
        reminder: Message that is appended to the conversation after an unusable reply.
        retries: Number of times an unusable reply is requested again.
        usage: Counts that are updated.
    """
    values: list[T | None] = [None] * len(questions)
    pending: dict[int, list[Message]] = dict(enumerate(questions))
    usage.questions += len(questions)
    for attempt in range(retries + 1):
        if not pending:
            break
        usage.retries += len(pending) if attempt else 0
        replies = judge.replies(list(pending.values()))
        unparsed: dict[int, list[Message]] = {}
        for (index, question), reply in zip(pending.items(), replies, strict=True):
            values[index] = parse(reply)
            if values[index] is None:
                # The reply and the reminder extend the conversation. Repeating the same question
                # would only return the same reply from the cache.
                unparsed[index] = [
                    *question,
                    {"role": "assistant", "content": reply},
                    {"role": "user", "content": reminder},
                ]
        pending = unparsed
    usage.unusable += len(pending)
    return values
