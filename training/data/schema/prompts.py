"""Prompts of a record: their context, earlier turns and system text, and the answers to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.data.readers.records import abbreviate
from training.data.schema.column_names import column_key
from training.data.schema.column_values import read_side, read_string
from training.data.schema.messages import read_history
from training.data.schema.rows import Message, RowError


def prompt_with_context(
    values: Mapping[str, Any], columns: Mapping[str, str], *, empty: bool = False
) -> str | list[Message]:
    """Return the prompt with its context.

    Args:
        values: Values of a record.
        columns: Column of each part.
        empty: Whether the prompt may be empty.
    """
    column = columns["prompt"]
    if (
        empty
        and not isinstance(values[column], list | dict)
        and not str(values[column] or "").strip()
    ):
        return _with_context(read_string(values, column, "prompt", empty=True), values, columns)
    return _with_context(read_side(values[column], column, "prompt"), values, columns)


def _with_context(
    prompt: str | list[Message], values: Mapping[str, Any], columns: Mapping[str, str]
) -> str | list[Message]:
    """Return a prompt with its context, if there is a context column.

    In a prompt of messages the context goes to the last message.

    Raises:
        RowError: There is a context, and the last message is not the user's.
    """
    if isinstance(prompt, str):
        return _text_with_context(prompt, values, columns)
    text = _text_with_context("", values, columns).strip()
    if not text:
        return prompt
    if not prompt or prompt[-1]["role"] != "user":
        raise RowError(
            f"the context (column {columns['context']}) has no user message to stand in: the "
            f"prompt ends in {abbreviate(prompt[-1:])}. Put the context into the messages"
        )
    content = _text_with_context(prompt[-1]["content"], values, columns)
    return [*prompt[:-1], {**prompt[-1], "content": content}]


def _text_with_context(text: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    if "context" not in columns:
        return text
    context = read_string(values, columns["context"], "context", empty=True).strip()
    if not context:
        return text
    # A question follows its context, an instruction precedes its input.
    question = column_key(columns["prompt"]) == "question"
    return "\n\n".join((context, text) if question else (text, context))


def after_history(
    prompt: str | list[Message], values: Mapping[str, Any], columns: Mapping[str, str]
) -> str | list[Message]:
    """Return a prompt after its earlier turns, if there is a history column.

    Args:
        prompt: Prompt of the record.
        values: Values of a record.
        columns: Column of each part.
    """
    earlier = _history(values, columns)
    return [*earlier, *as_messages(prompt, "user")] if earlier else prompt


def _history(values: Mapping[str, Any], columns: Mapping[str, str]) -> list[Message]:
    """Return the turns before a prompt, if there is a history column."""
    column = columns.get("history")
    return [] if column is None else read_history(values[column], column)


def with_system(prompt: str | list[Message], system: str) -> tuple[str | list[Message], str]:
    """Return a prompt and its system text; a prompt of messages takes the system text in."""
    if isinstance(prompt, str) or not system:
        return prompt, system
    if prompt and prompt[0]["role"] == "system":
        return prompt, ""
    return [{"role": "system", "content": system}, *prompt], ""


def as_messages(side: str | list[Message], role: str) -> list[Message]:
    """Return text as a single message of a role; messages are returned unchanged."""
    return [{"role": role, "content": side}] if isinstance(side, str) else side


def split_conversations(
    prompt: str | list[Message], sides: list[str | list[Message]]
) -> tuple[str | list[Message], list[Any]]:
    """Return the prompt and the answers to it.

    The answers may be complete conversations that repeat the prompt, which is removed from them.
    """
    conversations = [side for side in sides if isinstance(side, list) and len(side) > 1]
    if len(conversations) != len(sides):
        return prompt, sides
    turns = as_messages(prompt, "user")
    # A system message may precede the prompt in the conversations.
    most = min(map(len, conversations)) - len(turns)
    for start in range(max(0, most)):
        stop = start + len(turns)
        if all(side[:stop] == conversations[0][:start] + turns for side in conversations):
            return conversations[0][:stop], [side[stop:] for side in conversations]
    return prompt, sides


def split_shared_prompt(
    chosen: str | list[Message], rejected: str | list[Message]
) -> tuple[list[Message], list[Message], list[Message]]:
    """Return the messages that two conversations share, and the rest of each.

    Raises:
        RowError: The conversations begin with different prompts.
    """
    left, right = as_messages(chosen, "assistant"), as_messages(rejected, "assistant")
    shared = 0
    while shared < min(len(left), len(right)) - 1 and left[shared] == right[shared]:
        shared += 1
    if not shared and any(m["role"] != "assistant" for m in (*left, *right)):
        raise RowError(f"chosen and rejected begin with different prompts: {abbreviate(left[0])}")
    return left[:shared], left[shared:], right[shared:]


def split_last_answer(
    conversation: str | list[Message], column: str
) -> tuple[list[Message], str | list[Message]]:
    """Return a conversation without its last answer, and that answer.

    Raises:
        RowError: The conversation does not end with an answer.
    """
    if (
        isinstance(conversation, str)
        or len(conversation) < 2
        or conversation[-1]["role"] != "assistant"
    ):
        found = abbreviate(conversation)
        raise RowError(f"{column} does not end with an answer of the assistant: {found}")
    return conversation[:-1], conversation[-1:]
