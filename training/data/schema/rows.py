"""The kinds of row that anything is learned from, whatever file they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]
"""`role` (system, user, assistant, tool), `content` (text), and maybe `tool_calls` (a list of
`{"type": "function", "function": {"name", "arguments"}}`) and `name`. Chat templates read these.
`learned: False` stands where what the assistant says is context alone."""


@dataclass(frozen=True, slots=True)
class TextRow:
    """Plain text."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class CompletionRow:
    """A prompt and the text expected after it; `system` says how to answer, if anything does."""

    id: str
    prompt: str
    completion: str
    system: str = ""


@dataclass(frozen=True, slots=True)
class DialogueRow:
    """A conversation.

    Attributes:
        id: Where it came from.
        messages: In the order they were said.
        tools: JSON schemas of the functions the assistant may call.
        answers_from: Index of the first message that counts as an answer; what the assistant said
            before it is context.
    """

    id: str
    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    answers_from: int = 0


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """Two answers, the first preferred. Text throughout, or messages throughout.

    Attributes:
        id: Where it came from.
        prompt: What was answered.
        chosen: The better answer.
        rejected: The other.
        margin: How much better, where somebody said so.
        system: How to answer, where the prompt is text and somebody said so.
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
    """An answer known to be good or bad; `system` and `tools` as of a `PreferenceRow`."""

    id: str
    prompt: str | list[Message]
    completion: str | list[Message]
    label: bool
    system: str = ""
    tools: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt to answer, and what a right answer is checked against."""

    id: str
    prompt: str | list[Message]
    reference: str | None
    columns: dict[str, Any]


Row: TypeAlias = TextRow | CompletionRow | DialogueRow | PreferenceRow | UnpairedRow | PromptRow


def as_prompt(row: Row) -> PromptRow:
    """Return what there is to answer in a row of another kind.

    Raises:
        RowError: Nobody asks anything in it.
    """
    if isinstance(row, PromptRow):
        return row
    if isinstance(row, TextRow):
        return PromptRow(row.id, row.text, None, {})
    if isinstance(row, CompletionRow):
        return PromptRow(row.id, prepend_system(row.system, row.prompt), row.completion, {})
    if isinstance(row, DialogueRow):
        asked = [i for i, message in enumerate(row.messages) if message["role"] == "user"]
        if not asked:
            raise RowError("no user says anything in it, so there is nothing to answer")
        return PromptRow(row.id, row.messages[: asked[-1] + 1], None, {})
    if isinstance(row.prompt, str):
        return PromptRow(row.id, prepend_system(row.system, row.prompt), None, {})
    return PromptRow(row.id, row.prompt, None, {})


def prepend_system(system: str, prompt: str) -> str:
    """Return a prompt behind what is said of how to answer it."""
    return f"{system}\n\n{prompt}" if system else prompt


class RowError(ValueError):
    """A record of a known shape whose content cannot be used; says what and how to mend it."""
