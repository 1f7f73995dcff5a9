"""Prompt of a row as text, by which rows with the same prompt are recognized in every shape."""

from __future__ import annotations

import hashlib

from training.data.schema.rows import DialogueRow, Message, PromptRow, Row, TextRow


def prompt_text(row: Row, *, last_answer: bool) -> str:
    """Return the text before what a row teaches; empty for a row without a prompt.

    White space is normalized, so that a conversation and a prompt with a completion have the same
    prompt if they ask the same.

    Args:
        row: The row.
        last_answer: Whether only the last answer of a conversation is learned.
    """
    if isinstance(row, TextRow):
        return ""
    if isinstance(row, DialogueRow):
        return _joined("", row.messages[: _end_of_prompt(row, last_answer=last_answer)])
    return _joined("" if isinstance(row, PromptRow) else row.system, row.prompt)


def prompt_digest(text: str) -> int:
    """Return 64 bits that stand for a prompt; 0 for an empty one."""
    if not text:
        return 0
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or 1


def _end_of_prompt(row: DialogueRow, *, last_answer: bool) -> int:
    answers = [
        number
        for number, message in enumerate(row.messages)
        if message["role"] == "assistant" and number >= row.answers_from
    ]
    learned = [n for n in answers if row.messages[n].get("learned", True)] or answers
    if not learned:
        return 0
    return learned[-1] if last_answer else learned[0]


def _joined(system: str, prompt: str | list[Message]) -> str:
    contents = [prompt] if isinstance(prompt, str) else [str(m["content"]) for m in prompt]
    return " ".join(" ".join([system, *contents]).split())
