"""Call of a deployed model, as a log records it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Message = Mapping[str, Any]
Prompt = str | Sequence[Message]


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """One answer of a deployed model, or one prompt whose answer was not logged.

    Attributes:
        id: Id of the call in the log.
        time: When it was made, in UTC.
        model: Model or adapter that answered, as the log names it.
        prompt: Text, or messages.
        answer: Text of the answer; None if the log does not have it.
        finish_reason: `stop`, `length` or another reason for its end; None if it is not known.
        prompt_tokens: Tokens of the prompt; None if they are not known.
        answer_tokens: Tokens of the answer; None if they are not known.
        latency_s: Seconds until the answer was complete; None if they are not known.
        first_token_s: Seconds until its first token; None if they are not known.
        failed: Whether it ended in an error.
    """

    id: str
    time: datetime
    model: str
    prompt: Prompt
    answer: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    latency_s: float | None = None
    first_token_s: float | None = None
    failed: bool = False

    @property
    def prompt_text(self) -> str:
        """Text of the prompt: all messages, one below the other."""
        return joined_text(self.prompt)


def joined_text(prompt: Prompt) -> str:
    """Return a text as it is, and messages one below the other."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(message_text(message) for message in prompt)


def message_text(message: Message) -> str:
    """Return the text of a message, whose content is a text or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "\n".join(
        str(part["text"]) for part in parts if isinstance(part, Mapping) and "text" in part
    )
