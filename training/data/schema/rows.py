"""Typed rows, which are the same for every source and file format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

Message: TypeAlias = dict[str, Any]
"""`role` (system, user, assistant, tool), `content` (text), and maybe `tool_calls` (a list of
`{"type": "function", "id", "function": {"name", "arguments"}}`), `tool_call_id`, `name` and
`reasoning_content`. Chat templates read these. `learned: False` marks an assistant message that is
context only."""
REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
"""Keys by which data and chat templates name the reasoning before an answer."""


class ToolArguments(dict[str, Any]):
    """Arguments of a tool call, with the JSON text that the data has for them.

    Some templates write an object, others join the text.

    Args:
        values: The arguments.
        text: JSON text of the arguments.
    """

    def __init__(self, values: dict[str, Any], text: str):
        super().__init__(values)
        self.text = text

    def __reduce__(self) -> tuple[type[ToolArguments], tuple[dict[str, Any], str]]:
        """Return how to copy or pickle the arguments."""
        return ToolArguments, (dict(self), self.text)


@dataclass(frozen=True, slots=True)
class TextRow:
    """Plain text."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class CompletionRow:
    """Prompt with the completion expected after it; `system` and `tools` as in `PreferenceRow`."""

    id: str
    prompt: str
    completion: str
    system: str = ""
    tools: list[dict[str, Any]] | None = None


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


class RankedPair(NamedTuple):
    """Pair of a ranking.

    Attributes:
        chosen: Index of the better answer.
        rejected: Index of the other one.
        weight: Weight of the pair; those of a ranking add up to 1 if no dimension ties all answers.
    """

    chosen: int
    rejected: int
    weight: float


@dataclass(frozen=True, slots=True)
class RankingRow:
    """Ranked answers to a prompt, either all text or all messages.

    Attributes:
        id: Origin of the row.
        prompt: The prompt.
        answers: The answers.
        pairs: Pairs to learn from.
        system: System message, if the prompt is text.
        tools: JSON schemas of the functions the assistant may call.
    """

    id: str
    prompt: str | list[Message]
    answers: list[str] | list[list[Message]]
    pairs: list[RankedPair]
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
    """Prompt to answer, with the reference answer, columns that rewards read, and tools."""

    id: str
    prompt: str | list[Message]
    reference: str | None
    columns: dict[str, Any]
    tools: list[dict[str, Any]] | None = None


Row: TypeAlias = (
    TextRow | CompletionRow | DialogueRow | PreferenceRow | RankingRow | UnpairedRow | PromptRow
)


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
        prompt = prepend_system(row.system, row.prompt)
        return PromptRow(row.id, prompt, row.completion, {}, row.tools)
    if isinstance(row, DialogueRow):
        user_turns = [i for i, message in enumerate(row.messages) if message["role"] == "user"]
        if not user_turns:
            raise RowError("the conversation has no user message, so there is nothing to answer")
        return PromptRow(row.id, row.messages[: user_turns[-1] + 1], None, {}, row.tools)
    if isinstance(row.prompt, str):
        return PromptRow(row.id, prepend_system(row.system, row.prompt), None, {}, row.tools)
    return PromptRow(row.id, row.prompt, None, {}, row.tools)


def prepend_system(system: str, prompt: str) -> str:
    """Return a text prompt with the system message before it."""
    return f"{system}\n\n{prompt}" if system else prompt


class RowError(ValueError):
    """Error of a record whose shape is known and whose content cannot be used."""
