"""Messages of rows of every kind, as the providers accept them: system, user, assistant in turn."""

from __future__ import annotations

from typing import Any

from training.data.schema.rows import (
    CompletionRow,
    DialogueRow,
    Message,
    PromptRow,
    Row,
    RowError,
    UnpairedRow,
)

Turn = tuple[str, str]
"""Role and text of a message."""


def turns_of(messages: list[Message]) -> tuple[str, list[Turn]]:
    """Return the system message and the turns of a conversation.

    Raises:
        RowError: A message is none of text, or the roles do not alternate from a user on.
    """
    turns, system = [_turn(message) for message in messages], ""
    if turns and turns[0][0] == "system":
        system, turns = turns[0][1], turns[1:]
    for index, (role, _) in enumerate(turns):
        if role != ("user", "assistant")[index % 2]:
            raise RowError(
                f"message {index + 1} is of the role {role}: user and assistant must alternate, "
                f"beginning with user"
            )
    return system, turns


def conversation_of(row: Row) -> tuple[str, list[Turn]]:
    """Return the system message and the turns of a row whose last turn is learned.

    Raises:
        RowError: It has tools, does not end with an answer, or has turns that are not learned.
    """
    if getattr(row, "tools", None):
        raise RowError("tools are not part of the provider's format")
    if isinstance(row, CompletionRow):
        return row.system, [("user", _text(row.prompt)), ("assistant", _text(row.completion))]
    if not isinstance(row, DialogueRow):
        raise RowError("is no conversation")
    if any(message.get("learned") is False for message in row.messages) or row.answers_from:
        raise RowError("has an answer that is context only, and the provider learns every answer")
    system, turns = turns_of(row.messages)
    if not turns or turns[-1][0] != "assistant":
        raise RowError("does not end with an answer of the assistant")
    return system, turns


def prompt_of(row: Row) -> tuple[str, list[Turn]]:
    """Return the system message and the turns of a prompt, which ends with the user's.

    Raises:
        RowError: It ends with another role, or has tools.
    """
    if not isinstance(row, PromptRow) or row.tools:
        raise RowError("is no prompt of text alone")
    if isinstance(row.prompt, str):
        return "", [("user", _text(row.prompt))]
    system, turns = turns_of(row.prompt)
    if not turns or turns[-1][0] != "user":
        raise RowError("does not end with a message of the user")
    return system, turns


def answers_of(row: Any) -> tuple[str, list[Turn], str, str]:
    """Return the system message, the turns, the preferred and the other answer of a pair.

    Raises:
        RowError: An answer is more than one message of text.
    """
    if isinstance(row, UnpairedRow) or getattr(row, "tools", None):
        raise RowError("is no pair of two texts")
    if isinstance(row.prompt, str):
        system, turns = row.system, [("user", _text(row.prompt))]
    else:
        system, turns = turns_of(row.prompt)
    return system, turns, _answer(row.chosen), _answer(row.rejected)


def _answer(value: str | list[Message]) -> str:
    if isinstance(value, str):
        return _text(value)
    if len(value) != 1:
        raise RowError("an answer has several messages, and the provider compares one")
    return _turn(value[0])[1]


def _turn(message: Message) -> Turn:
    for key in ("tool_calls", "tool_call_id"):
        if message.get(key):
            raise RowError(f"a message has {key}, which is not part of the provider's format")
    return str(message["role"]), _text(message.get("content"))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise RowError("a message has no text")
    return value
