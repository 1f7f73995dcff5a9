"""Hints for text that is almost JSON: what it is instead, and how to write it."""

from __future__ import annotations

import ast
import json
import warnings


def json_hint(text: str) -> str:
    """Return what text that cannot be parsed as JSON is instead, with the fix; empty if unknown.

    Args:
        text: A line of JSON Lines, or the text of a complete file.
    """
    text = text.strip()
    if _parses(text):
        # Python's parser accepts NaN, Infinity and half surrogate pairs; RFC 8259 does not.
        if any(name in text for name in ("NaN", "Infinity")):
            return "NaN and Infinity are not JSON (RFC 8259): write null"
        return "half of a surrogate pair is no character: the text was cut inside an emoji"
    if text.endswith(",") and _parses(text[:-1]):
        return "remove the comma at the end of the line"
    if text in ("{", "["):
        return "a record may not span lines: write one per line, as jq -c . FILE does"
    if text.startswith(("{'", "[{'")) and _is_python_literal(text):
        return "it is a Python literal: write it with json.dumps"
    return ""


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_python_literal(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the user's text
            ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return True
