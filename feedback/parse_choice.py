"""Parser of choices as annotators and forms write them: `a`, `Answer 2`, `model_b`, `tie`."""

from __future__ import annotations

import re
from typing import Any

_SIDE = re.compile(
    r"(?:the )?(?:(?:answer|response|model|option|assistant|completion|output)[ _-]*)?"
    r"(a|b|1|2|first|second|left|right)(?: is better| wins)?"
)
_FIRST = ("a", "1", "first", "left")
_NEITHER = (
    "same",
    "neither",
    "equal",
    "equally good",
    "both",
    "both bad",
    "both good",
    "ab",
    "draw",
)


def parse_choice(value: Any, first: str = "", second: str = "") -> int | None:
    """Return 0 for the first answer, 1 for the second, None for a tie.

    Args:
        value: The choice; a form's fields may be objects, such as `{"a": true}` or
            `{"label": "Answer A"}`.
        first: The first answer: a choice may repeat its text.
        second: The second answer.

    Raises:
        ValueError: It is none of them.
    """
    inner = _unwrap(value)
    text = str(inner).strip()
    key = re.sub(r"^([012])\.0+$", r"\1", text.lower())
    if side := _SIDE.fullmatch(key):
        return 0 if side[1] in _FIRST else 1
    if key in _NEITHER or re.match(r"tie\b", key):
        return None
    if text and first.strip() != second.strip() and text in (first.strip(), second.strip()):
        return 0 if text == first.strip() else 1
    if key == "0":
        raise ValueError("the choice 0 may mean either answer: write a, b and tie, or 1 and 2")
    raise ValueError(f"the choice {inner!r} is none of a, b, tie (or first, second; 1, 2)")


def _unwrap(value: Any) -> Any:
    """Return the choice in a form's field: `a` for `{"a": {"on": true}}` and `{"label": "a"}`."""
    if isinstance(value, list) and len(value) == 1:
        return _unwrap(value[0])
    if not isinstance(value, dict) or not value:
        return value
    selected = [
        name for name, on in value.items() if on is True or (isinstance(on, dict) and _is_on(on))
    ]
    if len(selected) == 1:
        return selected[0]
    for name in ("label", "labels", "choice"):
        if name in value:
            return _unwrap(value[name])
    return _unwrap(next(iter(value.values()))) if len(value) == 1 else value


def _is_on(button: dict[str, Any]) -> bool:
    return list(button.values()) == [True]
