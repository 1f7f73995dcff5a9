"""Names of columns: the spellings by which each part of a shape is recognized."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Spellings of a column, most specific first. Case, spaces, hyphens and underscores do not matter.
SPELLINGS: dict[str, tuple[str, ...]] = {
    "text": ("text", "content", "document", "body", "article", "passage", "code", "markdown"),
    "prompt": (
        "prompt", "question", "instruction", "query", "request", "user", "human", "input",
        "problem", "user_prompt", "input_text", "source_text",
    ),
    "completion": (
        "completion", "expected_completion", "response", "expected_response", "answer",
        "expected_answer", "best_answer", "correct_answer", "output", "expected_output", "target",
        "reply", "assistant", "solution", "canonical_solution", "expected", "output_text",
        "target_text",
    ),
    "context": ("context", "input"),
    "messages": ("messages", "message_list", "dialogue", "dialog", "chat"),
    "conversations": ("conversations", "conversation"),
    "chosen": ("chosen", "preferred", "accepted", "better"),
    "rejected": ("rejected", "dispreferred", "worse"),
    "answers": ("answers", "responses", "completions", "candidates"),
    "ranks": ("ranks", "ranking", "rank"),
    "label": ("label", "is_good", "desirable", "good"),
    "margin": ("margin",),
    "system": ("system", "system_prompt"),
    "tools": ("tools", "functions"),
    "history": ("history",),
    "reference": ("reference", "reference_answer", "ground_truth", "answer", "solution", "target"),
}  # fmt: skip


def column_key(name: str) -> str:
    """Return a column's name without case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_\-]+", "_", name.strip().lower())


def match_spellings(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the column of each part that a record has, by the spellings of the parts."""
    present = {column_key(name): name for name in reversed(list(values))}
    matched = {}
    for part, spellings in SPELLINGS.items():
        for spelling in spellings:
            if spelling in present:
                matched[part] = present[spelling]
                break
    if matched.get("context") == matched.get("prompt"):
        matched.pop("context", None)
    return matched
