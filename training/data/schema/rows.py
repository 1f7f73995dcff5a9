"""Typed rows, which are the same for every source and file format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]
"""`role` (system, user, assistant, tool), `content` (text), and maybe `tool_calls` (a list of
`{"type": "function", "function": {"name", "arguments"}}`) and `name`. Chat templates read these.
`learned: False` marks an assistant message that is context only."""


@dataclass(frozen=True, slots=True)
class TextRow:
    """Plain text."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class CompletionRow:
    """Prompt with the completion expected after it, and an optional system message."""

    id: str
    prompt: str
    completion: str
    system: str = ""


@dataclass(frozen=True, slots=True)
class DialogueRow:
    """Conversation.

    Attributes:
        id: Origin of the row.
        messages: Messages in order.
        tools: JSON schemas of the functions the assistant may call.
        answers_from: Index of the first message that counts as an answer; assistant messages before
            it are context.
    """

    id: str
    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    answers_from: int = 0


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """Preference pair: two answers to a prompt, either all text or all messages.

    Attributes:
        id: Origin of the row.
        prompt: The prompt.
        chosen: The preferred answer.
        rejected: The other answer.
        margin: Margin of the preference, if annotated.
        system: System message, if the prompt is text.
        tools: JSON schemas of the functions the assistant may call.
    """

    id: str
    prompt: str | list[Message]
    chosen: str | list[Message]
    rejected: str | list[Message]
    margin: float | None = None
    system: str = ""
    tools: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class UnpairedRow:
    """Answer with a label, True for good; `system` and `tools` as in `PreferenceRow`."""

    id: str
    prompt: str | list[Message]
    completion: str | list[Message]
    label: bool
    system: str = ""
    tools: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class PromptRow:
    """Prompt to answer, with the reference answer and columns that rewards read."""

    id: str
    prompt: str | list[Message]
    reference: str | None
    columns: dict[str, Any]


Row: TypeAlias = TextRow | CompletionRow | DialogueRow | PreferenceRow | UnpairedRow | PromptRow


def as_prompt(row: Row) -> PromptRow:
    """Return the prompt of a row of any kind.

    Raises:
        RowError: The row is a conversation without a user message.
    """
    if isinstance(row, PromptRow):
        return row
    if isinstance(row, TextRow):
        return PromptRow(row.id, row.text, None, {})
    if isinstance(row, CompletionRow):
        return PromptRow(row.id, prepend_system(row.system, row.prompt), row.completion, {})
    if isinstance(row, DialogueRow):
        user_turns = [i for i, message in enumerate(row.messages) if message["role"] == "user"]
        if not user_turns:
            raise RowError("the conversation has no user message, so there is nothing to answer")
        return PromptRow(row.id, row.messages[: user_turns[-1] + 1], None, {})
    if isinstance(row.prompt, str):
        return PromptRow(row.id, prepend_system(row.system, row.prompt), None, {})
    return PromptRow(row.id, row.prompt, None, {})


def prepend_system(system: str, prompt: str) -> str:
    """Return a text prompt with the system message before it."""
    return f"{system}\n\n{prompt}" if system else prompt


class RowError(ValueError):
    """Error of a record whose shape is known and whose content cannot be used."""
