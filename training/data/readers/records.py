"""What a reader yields: a record with the place it came from, or a place that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class SourcePosition:
    """Where a record starts in its file, enough to go on reading from there.

    Attributes:
        offset: Bytes (of the decompressed file) before the record; 0 where the format has no use
            for it.
        number: Lines, rows or entries before the record.
    """

    offset: int = 0
    number: int = 0


START = SourcePosition()


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One record as it stands in a source.

    Attributes:
        origin: Readable and unique within a run: `tickets.jsonl:17`. Lines, rows and entries
            count from 1.
        values: The record's columns.
        position: Where it starts in its file.
    """

    origin: str
    values: dict[str, Any]
    position: SourcePosition = field(default=START, compare=False)


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that cannot be read.

    Attributes:
        origin: As in `Record`.
        reason: What is wrong, with the value and the fix.
        position: Where it starts in its file.
    """

    origin: str
    reason: str
    position: SourcePosition = field(default=START, compare=False)


def shown(value: object, limit: int = 80) -> str:
    """Return `value` for an error message, cut to `limit` characters."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text[: 4 * limit].split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
