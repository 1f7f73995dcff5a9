"""Labels of answers: the spellings of good and bad."""

from __future__ import annotations

from typing import Any


def parse_bool(value: Any) -> bool | None:
    """Return a label as a bool; None if it is neither true nor false."""
    if isinstance(value, bool):
        return value
    words = {"true": True, "false": False, "good": True, "bad": False, "yes": True, "no": False}
    return words.get(value.strip().lower()) if isinstance(value, str) else None


_LABELS = {
    **dict.fromkeys(("1", "1.0", "👍", "up", "like", "desirable", "positive", "accepted"), True),
    **dict.fromkeys(("0", "0.0", "👎", "down", "dislike", "undesirable", "negative"), False),
}


def parse_label(value: Any) -> bool | None:
    """Return `parse_bool` of more spellings, for columns that are known to hold labels."""
    label = parse_bool(value)
    return _LABELS.get(str(value).strip().lower()) if label is None else label
