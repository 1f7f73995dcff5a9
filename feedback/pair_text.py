"""Prompt and answers of a pair: as text for comparison, and in their original form for training."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

_TURN = "\n\nAssistant:"
"""Marker of the last turn in transcripts, as in the HH-RLHF data set."""


@dataclass(frozen=True)
class ResponsePair:
    """Prompt with two answers.

    Attributes:
        prompt: The prompt as text.
        first: One answer as text.
        second: The other answer as text.
        original: The three as in the file, if they are messages and not text.
    """

    prompt: str
    first: str
    second: str
    original: tuple[Any, Any, Any] | None

    @property
    def swapped(self) -> ResponsePair:
        """The same pair with the answers in the other order."""
        original = self.original
        if original is not None:
            original = (original[0], original[2], original[1])
        return replace(self, first=self.second, second=self.first, original=original)


def parse_pair(prompt: Any, first: Any, second: Any) -> ResponsePair:
    """Return the parts of a pair; without a prompt it is the common beginning of both answers.

    Args:
        prompt: Text, messages (`role` and `content`), or None.
        first: One answer, or the conversation that ends with it.
        second: The other answer.

    Raises:
        ValueError: There is no prompt, and the answers have no common beginning.
    """
    parts = [_messages(part) for part in (prompt, first, second)]
    if parts[0] is None:
        parts = list(_split_common_prompt(parts[1], parts[2]))
    original = tuple(parts) if any(isinstance(part, list) for part in parts) else None
    texts = [_text(part) for part in parts]
    return ResponsePair(texts[0], texts[1], texts[2], original)


def _split_common_prompt(first: Any, second: Any) -> tuple[Any, Any, Any]:
    if isinstance(first, list) and isinstance(second, list):
        # The last message of the shorter conversation is always an answer.
        longest = min(len(first), len(second)) - 1
        count = next((n for n in range(longest) if first[n] != second[n]), max(0, longest))
        if count:
            return first[:count], first[count:], second[count:]
    elif isinstance(first, str) and isinstance(second, str):
        equal = (a == b for a, b in zip(first, second, strict=False))
        cut = first[: next((n for n, same in enumerate(equal) if not same), None)].rfind(_TURN)
        if cut >= 0:
            cut += len(_TURN)
            return first[:cut], first[cut:], second[cut:]
    raise ValueError("no prompt, and the two sides do not begin with the same conversation")


def _messages(value: Any) -> Any:
    """Return a conversation stored as JSON text, or a single message, as a list of messages."""
    if isinstance(value, dict):
        return [value]
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(_message_text(message) for message in value)
    return value if isinstance(value, str) else "" if value is None else str(value)


def _message_text(message: Any) -> str:
    if not isinstance(message, dict):
        return str(message)
    content = message.get("content", message.get("value")) or ""
    calls = message.get("tool_calls")
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return text + (json.dumps(calls, ensure_ascii=False) if calls else "")
