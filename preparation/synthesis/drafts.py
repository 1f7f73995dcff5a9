"""Drafts: prompts with answers that a teacher wrote, and the reasons why others were rejected."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from preparation.rows import Scalar
from training.data.schema.rows import Message
from training.judges.reply_cache import JudgeReply

_REFUSAL_WORDS = 80
_REFUSAL = re.compile(r"\bsorry\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Draft:
    """Prompt and answer that may become a row.

    Attributes:
        id: Unique name of the draft.
        prompt: The prompt.
        answer: The answer.
        group: Key of related drafts, which a split keeps together.
        context: Text in which the answer is grounded; shown to the judge.
        tags: Values that are written with the row.
    """

    id: str
    prompt: str
    answer: str
    group: str
    context: str = ""
    tags: Mapping[str, Scalar] = field(default_factory=dict)

    def answered(self, answer: str) -> Draft:
        """Return the draft with an answer."""
        return replace(self, answer=answer)

    def tagged(self, tags: Mapping[str, Scalar]) -> Draft:
        """Return the draft with further tags."""
        return replace(self, tags={**self.tags, **tags})


class Ask(Protocol):
    """Function that returns the teacher's reply to each conversation."""

    def __call__(self, questions: Sequence[list[Message]]) -> list[JudgeReply]:
        """Return the replies, in order."""


@dataclass
class Collection:
    """Accepted drafts so far, and the number of rejected ones by reason.

    Attributes:
        wanted: Number of rows to write.
        drafts: Accepted drafts.
        rejected: Number of rejected drafts by reason, in fixed words.
    """

    wanted: int
    drafts: list[Draft] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)

    @property
    def missing(self) -> int:
        """Number of rows that are still to be written."""
        return max(0, self.wanted - len(self.drafts))

    def reject(self, reason: str) -> None:
        """Count a rejected draft."""
        self.rejected[reason] += 1


def as_question(text: str, system: str | None = None) -> list[Message]:
    """Return the conversation that asks a model one question."""
    messages: list[Message] = [{"role": "user", "content": text}]
    return messages if system is None else [{"role": "system", "content": system}, *messages]


def tagged(text: str, tag: str) -> list[str]:
    """Return the texts between `<tag>` and `</tag>`, without those that are cut off."""
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL | re.IGNORECASE)
    return [part.strip() for part in found]


def answer_fault(reply: JudgeReply) -> str | None:
    """Return why a reply cannot be an answer, or None.

    A short reply that says "sorry" is a refusal, as in WizardLM (arXiv:2304.12244, section 3.2).
    """
    text = reply.text.strip()
    if not text:
        return "empty_answer"
    if reply.truncated:
        return "truncated_answer"
    if _REFUSAL.search(text) and len(text.split()) < _REFUSAL_WORDS:
        return "refusal"
    return None


def with_answers(
    drafts: list[Draft], ask: Ask, collected: Collection, system: str | None
) -> list[Draft]:
    """Return the drafts with the teacher's answers; those without a usable answer are counted.

    Args:
        drafts: Drafts whose prompts are answered.
        ask: Asks the teacher.
        collected: Counts of rejected drafts.
        system: System message of the teacher.
    """
    replies = ask([as_question(draft.prompt, system) for draft in drafts])
    answered = []
    for draft, reply in zip(drafts, replies, strict=True):
        fault = answer_fault(reply)
        if fault is None:
            answered.append(draft.answered(reply.text.strip()))
        else:
            collected.reject(fault)
    return answered
