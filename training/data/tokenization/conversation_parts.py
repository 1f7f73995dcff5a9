"""Parts of a long conversation: complete turns, each part with the system message before them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from training.data.schema.rows import DialogueRow, Message

_ENDS_A_TURN = ("assistant", "tool")
_BEGINS_A_TURN = ("user", "system")


def split_at_turns(row: DialogueRow, fits: Callable[[DialogueRow], bool]) -> list[DialogueRow]:
    """Split a conversation into as few parts as its turns allow, in order.

    A turn is what users say up to and including the answers to it, with their tool calls and
    results. Each message after the system message is in exactly one part. A turn that does not fit
    is a part of its own.

    Args:
        row: The conversation.
        fits: Whether a part fits into a row; if one does, so does its beginning.
    """
    opening = _opening(row.messages)
    turns = _turns(row.messages, opening)
    parts: list[DialogueRow] = []
    first = 0
    while first < len(turns):
        stop = _last_that_fits(row, opening, turns, first, fits)
        parts.append(_part(row, opening, turns, first, stop, len(parts) + 1))
        first = stop
    return parts


def _opening(messages: list[Message]) -> int:
    """Return the number of system messages at the beginning."""
    roles = [message["role"] for message in messages]
    return next((index for index, role in enumerate(roles) if role != "system"), len(roles))


def _turns(messages: list[Message], opening: int) -> list[tuple[int, int]]:
    """Return the bounds of the turns after the system message."""
    begins = [
        index
        for index in range(opening, len(messages))
        if index == opening
        or (
            messages[index]["role"] in _BEGINS_A_TURN
            and messages[index - 1]["role"] in _ENDS_A_TURN
        )
    ]
    return list(zip(begins, [*begins[1:], len(messages)], strict=True))


def _last_that_fits(
    row: DialogueRow,
    opening: int,
    turns: list[tuple[int, int]],
    first: int,
    fits: Callable[[DialogueRow], bool],
) -> int:
    """Return the end of the longest part that fits, by bisection: at least one turn.

    Args:
        row: The conversation.
        opening: Number of its system messages.
        turns: Bounds of its turns.
        first: Turn with which the part begins.
        fits: Whether a part fits into a row.
    """
    low, high = first + 1, len(turns)
    while low < high:
        middle = (low + high + 1) // 2
        if fits(_part(row, opening, turns, first, middle, 1)):
            low = middle
        else:
            high = middle - 1
    return low


def _part(
    row: DialogueRow,
    opening: int,
    turns: list[tuple[int, int]],
    first: int,
    stop: int,
    number: int,
) -> DialogueRow:
    """Return the part that holds some turns.

    Args:
        row: The conversation.
        opening: Number of its system messages.
        turns: Bounds of its turns.
        first: First turn of the part.
        stop: End of its turns.
        number: Number of the part.
    """
    begin, end = turns[first][0], turns[stop - 1][1]
    context = max(0, min(row.answers_from, end) - begin)
    return replace(
        row,
        id=f"{row.id}#{number}",
        messages=row.messages[:opening] + row.messages[begin:end],
        answers_from=opening + context,
    )
