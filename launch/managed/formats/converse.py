"""Format of Amazon Nova and of distillation: `bedrock-conversation-2024`, as in Converse.

https://docs.aws.amazon.com/nova/latest/userguide/fine-tune-prepare-data-understanding.html
"""

from __future__ import annotations

import re
from typing import Any

from launch.managed.formats.messages import Turn, answers_of, conversation_of, prompt_of
from training.data.schema.rows import Row, RowError

VERSION = "bedrock-conversation-2024"
_RESERVED = re.compile(r"(?:User|Bot|Assistant|System):|<image>|<video>|\[EOS\]")
"""Words that make a customization of Amazon Nova fail wherever a prompt has them."""


def conversation(row: Row) -> dict[str, Any]:
    """Return a conversation whose answers are learned."""
    system, turns = conversation_of(row)
    return _record(system, turns)


def prompt(row: Row) -> dict[str, Any]:
    """Return a prompt that a teacher answers."""
    system, turns = prompt_of(row)
    return _record(system, turns)


def preference(row: Row) -> dict[str, Any]:
    """Return a conversation that ends with two candidates."""
    system, turns, chosen, rejected = answers_of(row)
    record = _record(system, turns)
    candidates = [
        {"content": [{"text": text}], "preferenceLabel": label}
        for text, label in ((chosen, "preferred"), (rejected, "non-preferred"))
    ]
    record["messages"].append({"role": "assistant", "candidates": candidates})
    return record


def _record(system: str, turns: list[Turn]) -> dict[str, Any]:
    for text in (system, *(text for role, text in turns if role == "user")):
        if found := _RESERVED.search(text):
            raise RowError(f"a prompt has the reserved word {found[0]}")
    return {
        "schemaVersion": VERSION,
        **({"system": [{"text": system}]} if system else {}),
        "messages": [{"role": role, "content": [{"text": text}]} for role, text in turns],
    }
