"""Detection of a record's shape by its columns.

The order of `detect_shape` is the order of precedence, which `docs/data.md` documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Literal, TypeAlias

from training.config.data import ShapeName
from training.config.method_base import RowKind
from training.data.readers.records import SourceRecord
from training.data.schema.labels import parse_bool

_NEEDS: dict[ShapeName, tuple[str, ...]] = {
    "text": ("text",),
    "prompt_completion": ("prompt", "completion"),
    "alpaca": ("prompt", "completion"),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "preference": ("chosen", "rejected"),
    "ranking": ("prompt", "answers", "ranks"),
    "unpaired": ("prompt", "completion", "label"),
    "prompt": ("prompt",),
}

_READ: dict[ShapeName, tuple[str, ...]] = {
    "text": ("text",),
    "prompt_completion": ("prompt", "completion", "context", "system", "history", "tools"),
    "alpaca": ("prompt", "completion", "context", "system", "history", "tools"),
    "messages": ("messages", "system", "tools"),
    "sharegpt": ("conversations", "system", "tools"),
    "preference": (
        "prompt", "chosen", "rejected", "context", "system", "history", "tools", "margin",
    ),
    "ranking": ("prompt", "answers", "ranks", "context", "system", "history", "tools"),
    "unpaired": ("prompt", "completion", "label", "context", "system", "history", "tools"),
}  # fmt: skip
"""Parts that each shape reads; `prompt` reads every column, because rewards may."""
SETTLING_PARTS = ("label", "messages", "conversations")
"""Parts whose values, and not only their names, settle the shape of a record."""

WantedRows: TypeAlias = RowKind | Literal["any"]
"""Kind of row that a method trains on; a preparation takes rows of any kind."""
_PAIRS = ("preference", "any")
"""Kinds for which a pair of answers takes precedence over a conversation in the same record."""
_JUDGED: tuple[ShapeName, ...] = ("preference", "unpaired")
"""Shapes that take precedence over a conversation in the same record, if the method needs them."""


def with_conversation_as_prompt(
    columns: dict[str, str], values: Mapping[str, Any], want: WantedRows
) -> dict[str, str]:
    """Return the columns, with a conversation as the prompt of a pair or as the labelled text.

    Args:
        columns: Column of each part that the record has.
        values: Values of the record.
        want: Kind of row that the method trains on.
    """
    conversations = [columns[name] for name in ("messages", "conversations") if name in columns]
    conversation = next(
        (column for column in conversations if _holds_messages(values[column])), None
    )
    if conversation is None:
        return columns
    matched = dict(columns)
    if want in _PAIRS and "prompt" not in matched and "chosen" in matched:
        side = values[matched["chosen"]]
        # If the chosen column holds complete conversations, this one is not a prompt.
        if not (isinstance(side, list) and len(side) > 1):
            matched["prompt"] = conversation
    labelled = want == "any" and parse_bool(values.get(columns.get("label", ""))) is not None
    if (want == "unpaired" or labelled) and "completion" not in matched:
        matched["completion"] = conversation
        matched.pop("prompt", None)
    return matched


def needed_parts(shape: ShapeName, columns: Mapping[str, str]) -> list[str]:
    """Return the required parts of a shape; a conversation contains its own prompt."""
    whole = columns.get("completion") in (columns.get("messages"), columns.get("conversations"))
    return [name for name in _NEEDS[shape] if not (whole and name == "prompt")]


def preferred_shape(columns: Mapping[str, str], want: WantedRows) -> ShapeName | None:
    """Return the shape that the method needs, if it takes precedence over a conversation."""
    conversations = {columns.get("messages"), columns.get("conversations")} - {None}
    if want == "any" and "label" in columns and columns.get("completion") in conversations:
        return "unpaired"
    fits = (s for s in _JUDGED if s == want and {*_NEEDS[s]} - {"prompt"} <= columns.keys())
    return next(fits, None)


def detect_shape(
    columns: Mapping[str, str], values: Mapping[str, Any], want: WantedRows
) -> ShapeName | None:
    """Return the first shape that a record fits; None if it fits none.

    Args:
        columns: Column of each part that the record has.
        values: Values of the record.
        want: Kind of row that the method trains on.
    """
    has = columns.keys()
    text_first = want == "text" and has_text(columns, values)
    if want in _PAIRS and {"chosen", "rejected"} <= has:
        return "preference"
    if "messages" in has and not text_first and _holds_messages(values[columns["messages"]]):
        return "messages"
    if (
        "conversations" in has
        and not text_first
        and _holds_messages(values[columns["conversations"]])
    ):
        return "sharegpt"
    if {"chosen", "rejected"} <= has:
        return "preference"
    if {"prompt", "completion", "label"} <= has and is_judgment(values[columns["label"]], want):
        return "unpaired"
    if want == "text" and "text" in has and isinstance(values[columns["text"]], str):
        return "text"
    if {"prompt", "completion"} <= has and want != "prompt":
        return "alpaca" if "context" in has else "prompt_completion"
    if "text" in has and want != "prompt" and isinstance(values[columns["text"]], str):
        return "text"
    return _shape_of_prompts(has, want) if "prompt" in has else None


def has_text(columns: Mapping[str, str], values: Mapping[str, Any]) -> bool:
    """Return whether a record has text, which pre-training prefers to a conversation.

    Args:
        columns: Column of each part that the record has.
        values: Values of the record.
    """
    text = values.get(columns.get("text", ""))
    return isinstance(text, str) and bool(text.strip())


def _shape_of_prompts(has: Set[str], want: WantedRows) -> ShapeName:
    ranked = {"answers", "ranks"} <= has and want != "prompt"
    return "ranking" if ranked else "prompt"


def is_judgment(value: Any, want: WantedRows) -> bool:
    """Return whether a label says good or bad; for fine-tuning 0 and 1 do too."""
    return parse_bool(value) is not None or (
        want == "dialogue" and str(value).strip() in ("0", "1", "0.0", "1.0")
    )


def value_kind(value: Any) -> str:
    """Return the kind of a value, as far as it matters to the shape of a record."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return "list"
    if is_judgment(value, "dialogue"):
        return "judgment"
    return "json" if isinstance(value, str) and value.lstrip().startswith("[") else "other"


def unread_columns(record: SourceRecord, shape: ShapeName, columns: Mapping[str, str]) -> set[str]:
    """Return the columns of a record that its shape does not read.

    Args:
        record: Record of the source.
        shape: Its shape.
        columns: Column of each part that the record has.
    """
    if shape not in _READ:
        return set()
    return set(record.values) - {columns[part] for part in _READ[shape] if part in columns}


def _holds_messages(value: Any) -> bool:
    return (isinstance(value, list) and all(isinstance(item, dict) for item in value)) or (
        isinstance(value, str) and value.lstrip().startswith("[")
    )
