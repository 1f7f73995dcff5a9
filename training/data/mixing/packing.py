"""Packing of documents into rows without splitting a document."""

from __future__ import annotations

from collections.abc import Sequence


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Pack documents into rows by best-fit decreasing.

    Each document, from the longest to the shortest, goes into the fullest row that has room for it,
    or opens a new one (Ding et al. 2024, arXiv:2404.10830).

    Args:
        lengths: Tokens of each document, none above `capacity`.
        capacity: Tokens of a row.

    Returns:
        For each row the indices of its documents in order of insertion; every index occurs once.

    Raises:
        ValueError: A document is empty or longer than a row.
    """
    rows: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    # Bit r is set while some row has room r. The lowest set bit from `length` up is the best fit,
    # which is found without a search over all rows.
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
