"""Questions to the judge, and the parsing of its replies."""

from __future__ import annotations

import re

from training.config.constitution import Principle
from training.data.schema.rows import Message
from training.judges.local_generator import Prompt
from training.methods.common.generated_rows import prompt_text

_ANSWER = """Here is a question, and an answer to it.

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
CRITIQUE_REMINDER = "Say what could be better."
REVISION_REMINDER = f"There was no new answer. {_TAGS}"
CHOICE_REMINDER = "Reply with the single letter A or B, and with nothing else."
_REVISION = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_LETTER = re.compile(r"\b([AB])\b")


def critique_question(prompt: Prompt, answer: str, principle: Principle) -> list[Message]:
    """Return the question that asks for a critique of an answer.

    Args:
        prompt: Prompt of the answer.
        answer: Answer to criticize.
        principle: Principle to apply.
    """
    text = _ANSWER.format(prompt=prompt_text(prompt), answer=answer, principle=principle.text)
    return [{"role": "user", "content": f"{text}\n\n{principle.critique}"}]


def revision_question(
    question: list[Message], critique: str, principle: Principle
) -> list[Message]:
    """Return the conversation that asks for a revision after a critique.

    Args:
        question: Conversation that asked for the critique.
        critique: The judge's reply to it.
        principle: Principle to apply.
    """
    return [
        *question,
        {"role": "assistant", "content": critique},
        {"role": "user", "content": f"{principle.revision} {_TAGS}"},
    ]


def comparison_question(
    prompt: Prompt, first: str, second: str, principle: Principle
) -> list[Message]:
    """Return the question which of two answers is better.

    Args:
        prompt: Prompt of the answers.
        first: Answer shown as A.
        second: Answer shown as B.
        principle: Principle to apply.
    """
    text = _PAIR.format(
        prompt=prompt_text(prompt),
        first=first,
        second=second,
        principle=principle.text,
        choose=principle.choose,
    )
    return [{"role": "user", "content": text}]


def parse_critique(reply: str) -> str | None:
    """Return the critique; None if the reply is empty."""
    return reply.strip() or None


def parse_revision(reply: str) -> str | None:
    """Return the new answer in a reply; None if it has none."""
    match = _REVISION.search(reply)
    return (match[1].strip() or None) if match else None


def parse_choice(reply: str) -> str | None:
    """Return A or B; None if a reply names neither or both."""
    letters = set(_LETTER.findall(reply))
    return letters.pop() if len(letters) == 1 else None
