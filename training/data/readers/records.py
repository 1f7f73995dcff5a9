"""Records that readers yield, each with its origin, and records that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class SourcePosition:
    """Position of a record in its file, from which reading can resume.

    Attributes:
        offset: Bytes (of the decompressed file) before the record; 0 if the format does not need
            it.
        number: Lines, rows or entries before the record.
    """

    offset: int = 0
    number: int = 0


START = SourcePosition()


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """Record of a source.

    Attributes:
        origin: Readable id, unique within a run: `tickets.jsonl:17`. Lines, rows and entries
            count from 1.
        values: The record's columns.
        position: Position in its file.
    """

    origin: str
    values: dict[str, Any]
    position: SourcePosition = field(default=START, compare=False)


@dataclass(frozen=True, slots=True)
class BadRecord:
    """Record that cannot be read.

    Attributes:
        origin: As in `SourceRecord`.
        reason: Description of the defect, with the value and the fix.
        position: Position in its file.
    """

    origin: str
    reason: str
    position: SourcePosition = field(default=START, compare=False)


_hidden: ContextVar[bool] = ContextVar("_hidden", default=False)


@contextmanager
def hidden_values(hidden: bool) -> Iterator[None]:
    """Let error messages name the kind and size of a value instead of the value.

    A message about data in which secrets are searched for must not show one of them, and half a
    value, as messages have it, is not recognized as a secret.
    """
    token = _hidden.set(hidden)
    try:
        yield
    finally:
        _hidden.reset(token)


def abbreviate(value: object, limit: int = 80) -> str:
    """Return `value` for an error message, cut to `limit` characters."""
    if _hidden.get():
        size = f" of {len(value)}" if isinstance(value, str | bytes | list | tuple | dict) else ""
        return f"<{type(value).__name__}{size}, not shown>"
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text[: 4 * limit].split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
