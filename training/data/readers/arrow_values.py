"""Values read from Arrow tables (Parquet, data sets on the Hub)."""

from __future__ import annotations

from typing import Any


def without_absent_keys(values: dict[str, Any]) -> dict[str, Any]:
    """Return a record without the nulls that Arrow puts in place of absent keys.

    Arrow unites the keys of all objects of a column in one struct, and an object reads null for
    each key that it lacks. Learned as they are, the arguments of a tool call would hold those of
    all other tools. Columns of the record itself stay, as do nulls in lists.

    Args:
        values: Record of a table.
    """
    return {name: _without_nulls(value) for name, value in values.items()}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
