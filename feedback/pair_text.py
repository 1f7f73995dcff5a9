"""A prompt and two answers as text to compare, and as they were given to be learned from."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

_TURN = "\n\nAssistant:"


@dataclass(frozen=True)
class ResponsePair:
    """What was judged.

    Attributes:
        prompt: What was answered, as text.
        first: One answer.
        second: The other.
        given: The three as the file has them, where that is not text (messages).
    """

    prompt: str
    first: str
    second: str
    given: tuple[Any, Any, Any] | None

    @property
    def turned(self) -> ResponsePair:
        """The same, the other answer first."""
        given = None if self.given is None else (self.given[0], self.given[2], self.given[1])
        return replace(self, first=self.second, second=self.first, given=given)


def sides_of(prompt: Any, first: Any, second: Any) -> ResponsePair:
    """Return the parts of a pair; without a prompt it is what both sides begin with.

    Args:
        prompt: Text, messages (`role` and `content`), or None.
        first: One answer, or the whole conversation with it.
        second: The other.

    Raises:
        ValueError: There is no prompt, and the sides begin with different words.
    """
    parts = [_messages(part) for part in (prompt, first, second)]
    if parts[0] is None:
        parts = list(_shared(parts[1], parts[2]))
    given = tuple(parts) if any(isinstance(part, list) for part in parts) else None
    texts = [_text(part) for part in parts]
    return ResponsePair(texts[0], texts[1], texts[2], given)


def _shared(first: Any, second: Any) -> tuple[Any, Any, Any]:
    if isinstance(first, list) and isinstance(second, list):
        most = min(len(first), len(second)) - 1
        count = next((n for n in range(most) if first[n] != second[n]), max(0, most))
        if count:
            return first[:count], first[count:], second[count:]
    elif isinstance(first, str) and isinstance(second, str):
        alike = (a == b for a, b in zip(first, second, strict=False))
        cut = first[: next((n for n, same in enumerate(alike) if not same), None)].rfind(_TURN)
        if cut >= 0:
            cut += len(_TURN)
            return first[:cut], first[cut:], second[cut:]
    raise ValueError("no prompt, and the two sides do not begin with the same conversation")


def _messages(value: Any) -> Any:
    """Return a conversation that a table holds as JSON as one, a message as one of a message."""
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
        return "\n".join(_said(message) for message in value)
    return value if isinstance(value, str) else "" if value is None else str(value)


def _said(message: Any) -> str:
    if not isinstance(message, dict):
        return str(message)
    content = message.get("content", message.get("value")) or ""
    calls = message.get("tool_calls")
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return text + (json.dumps(calls, ensure_ascii=False) if calls else "")
