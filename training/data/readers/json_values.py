"""JSON values as the data has them: integers of any size, and the text of decimal numbers.

orjson, which reads fast, turns integers beyond 64 bits into rounded floats. Text that may hold such
a number is therefore read again by the standard library.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

_SPECIAL_NUMBER = re.compile(
    rb"[0-9]{19}|[0-9]\.[0-9]*0(?![0-9.])|[0-9.][eE][+-]?[0-9]|\.[0-9]{16}"
)
"""Numbers that orjson or Python would write differently: `19.90`, `1e5`, 20 digits."""


class DecimalText(float):
    """Number that is written as in the data, such as `19.90`.

    Args:
        text: Text of the number.
    """

    _text: str

    def __new__(cls, text: str) -> DecimalText:
        """Return the number of a text."""
        number = super().__new__(cls, text)
        number._text = text
        return number

    def __str__(self) -> str:
        """Return the number as the data has it."""
        return self._text

    def __reduce__(self) -> tuple[type[DecimalText], tuple[str]]:
        """Return how to copy or pickle the number."""
        return DecimalText, (self._text,)


def parse_json(text: str | bytes) -> Any:
    """Return the value of JSON text.

    Raises:
        orjson.JSONDecodeError: It is not JSON.
    """
    value = orjson.loads(text)
    content = text.encode() if isinstance(text, str) else text
    if not _SPECIAL_NUMBER.search(content):
        return value
    return json.loads(content, parse_int=_integer, parse_float=_decimal)


def _integer(text: str) -> int | str:
    """Return an integer; Python reads no more than a few thousand digits, the rest stays text."""
    try:
        return int(text)
    except ValueError:
        return text


def _decimal(text: str) -> float:
    number = float(text)
    return number if repr(number) == text else DecimalText(text)
