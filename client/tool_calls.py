"""Calls of functions in a streamed answer, put together from their parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def join_tool_calls(parts: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Return the calls of functions whose parts came in a stream, in OpenAI's form."""
    calls: dict[int, dict[str, Any]] = {}
    for part in parts:
        function = part.get("function") or {}
        call = calls.setdefault(
            int(part.get("index") or 0),
            {"id": None, "type": "function", "function": {"name": "", "arguments": ""}},
        )
        call["id"] = part.get("id") or call["id"]
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""
    return tuple(calls[index] for index in sorted(calls))
