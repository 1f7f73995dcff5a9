"""What a judge is asked, and how its replies are read."""

from __future__ import annotations

import re

from training.config.constitution import Principle
from training.data.schema.rows import Message
from training.judges.local_generator import Prompt
from training.methods.common.generated_rows import written

_SHOWN = """Here is a question, and an answer to it.

Question:
{prompt}

Answer:
{answer}

The principle: {principle}"""
_TAGS = "Put the new answer between <answer> and </answer>, and nothing else there."
_PAIR = """Here is a question, and two answers to it.

Question:
{prompt}

Answer A:
{first}

Answer B:
{second}

The principle: {principle}

{choose} Reply with A or B alone."""
REVISED_WANTED = f"There was no new answer. {_TAGS}"
CHOSEN_WANTED = "Reply with the single letter A or B, and with nothing else."
_REVISED = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_LETTER = re.compile(r"\b([AB])\b")


def critique(prompt: Prompt, answer: str, principle: Principle) -> list[Message]:
    """Return the question for a critique."""
    shown = _SHOWN.format(prompt=written(prompt), answer=answer, principle=principle.text)
    return [{"role": "user", "content": f"{shown}\n\n{principle.critique}"}]


def revision(asked: list[Message], said: str, principle: Principle) -> list[Message]:
    """Return the question for a revision, behind the critique that was `said`."""
    return [
        *asked,
        {"role": "assistant", "content": said},
        {"role": "user", "content": f"{principle.revision} {_TAGS}"},
    ]


def comparison(prompt: Prompt, first: str, second: str, principle: Principle) -> list[Message]:
    """Return the question which of two answers is better."""
    said = _PAIR.format(
        prompt=written(prompt),
        first=first,
        second=second,
        principle=principle.text,
        choose=principle.choose,
    )
    return [{"role": "user", "content": said}]


def read_critique(reply: str) -> str | None:
    """Return a critique; None where nothing was said."""
    return reply.strip() or None


def read_revision(reply: str) -> str | None:
    """Return the new answer in a reply; None where there is none."""
    found = _REVISED.search(reply)
    return (found[1].strip() or None) if found else None


def read_choice(reply: str) -> str | None:
    """Return A or B; None where a reply names neither, or both."""
    letters = set(_LETTER.findall(reply))
    return letters.pop() if len(letters) == 1 else None
