"""Put documents into rows so that rows are full and documents stay whole."""

from __future__ import annotations

from collections.abc import Sequence


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Return which documents share a row: best fit, longest first.

    Each document goes, from the longest to the shortest, into the fullest row that still has room
    for it, or opens a new one.

    Args:
        lengths: Tokens of each document, none above `capacity`.
        capacity: Tokens of a row.

    Returns:
        For each row the indices of its documents, in the order they were put in. Every index is
        there exactly once.
    """
    rows: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    # Bit r is set while some row has room r: the fullest fitting row is then one shift away.
    rooms = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        if not 0 < length <= capacity:
            raise ValueError(f"a document of {length} tokens does not fit rows of {capacity}")
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                rooms &= ~(1 << room)
        else:
            room, row = capacity, len(rows)
            rows.append([])
        rows[row].append(index)
        left = room - length
        if left:
            by_room[left].append(row)
            rooms |= 1 << left
    return rows
