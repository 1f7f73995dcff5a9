"""Values of a record's columns as text, messages, tools, lists and numbers."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import orjson

from training.data.readers.json_values import parse_json
from training.data.readers.records import abbreviate
from training.data.schema.messages import encoded_messages, read_messages, read_tools
from training.data.schema.rows import Message, RowError


def read_string(values: Mapping[str, Any], column: str, part: str, *, empty: bool = False) -> str:
    """Return a column as text; numbers are converted.

    Args:
        values: Values of a record.
        column: Column to read.
        part: Part of the shape, for messages.
        empty: Whether the value may be empty.

    Raises:
        RowError: The value is not text, or it is empty.
    """
    value = values[column]
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if value is None and empty:
        return ""
    if not isinstance(value, str):
        raise RowError(f"{column} is not text: {abbreviate(value)}")
    if not value.strip() and not empty:
        raise RowError(f"the {part} is empty (column {column}). Fill it, or remove the row")
    return value


def read_side(value: Any, column: str, part: str) -> str | list[Message]:
    """Return a prompt or an answer as text or messages, which may be JSON in a text column.

    A single message becomes a list of one.

    Args:
        value: Value of the column.
        column: Column, for messages.
        part: Part of the shape, for messages.
    """
    if isinstance(value, str) and (messages := encoded_messages(value)) is not None:
        value = messages
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list):
        return read_messages(value, column) if value else []
    return read_string({column: value}, column, part)


def read_system(values: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    """Return the system text of a record; empty if there is no system column."""
    if "system" not in columns:
        return ""
    return read_string(values, columns["system"], "system", empty=True)


def read_tools_column(
    values: Mapping[str, Any], columns: Mapping[str, str]
) -> list[dict[str, Any]] | None:
    """Return the tools of a record, if there is a tools column."""
    return read_tools(values[columns["tools"]]) if "tools" in columns else None


def read_list(value: Any, column: str) -> list[Any]:
    """Return a column's list, which may be JSON in a text column.

    Raises:
        RowError: It holds no list.
    """
    if isinstance(value, str):
        with contextlib.suppress(orjson.JSONDecodeError):
            value = parse_json(value)
    if not isinstance(value, list):
        raise RowError(f"{column} is not a list of answers: {abbreviate(value)}")
    return value


def read_margin(values: Mapping[str, Any], columns: Mapping[str, str]) -> float | None:
    """Return the margin of a pair, if there is a margin column with a value.

    Raises:
        RowError: The value is not a finite number.
    """
    if "margin" not in columns or values[columns["margin"]] is None:
        return None
    value = values[columns["margin"]]
    if isinstance(value, str):
        if not value.strip():
            return None
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RowError(f"{columns['margin']} is not a number: {abbreviate(value)}")
    return float(value)
