"""Texts of prepared rows: found in every shape, and replaced without breaking the row."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from preparation.rows import PreparedRow


def _row(shape: Any, **columns: Any) -> PreparedRow:
    return PreparedRow("a:1", "a", shape, columns)


CALL = {
    "type": "function",
    "function": {"name": "mail", "arguments": '{"to": "ann@example.org", "cc": ["b", 3]}'},
}


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        (_row("text", text="a b"), ["a b"]),
        (_row("prompt_completion", system="s", prompt="p", completion="c"), ["s", "p", "c"]),
        (_row("preference", prompt="p", chosen="good", rejected="bad"), ["p", "good", "bad"]),
        (_row("ranking", prompt="p", answers=["x", "y"], ranks=[1, 2]), ["p", "x", "y"]),
        (
            _row(
                "messages",
                messages=[
                    {"role": "user", "content": "hi"},
                    {"role": "assistant", "content": "", "tool_calls": [CALL]},
                ],
            ),
            ["hi", "ann@example.org", "b"],
        ),
    ],
)
def test_texts_are_found_and_replaced(row: PreparedRow, texts: list[str]) -> None:
    assert [part.text for part in row.parts()] == texts
    changed = row.with_texts([text.upper() + '"' for text in texts])
    assert [part.text for part in changed.parts()] == [text.upper() + '"' for text in texts]
    assert [part.text for part in row.parts()] == texts, "the row itself has changed"


def test_arguments_of_a_tool_call_stay_json_and_keep_other_values() -> None:
    row = _row("messages", messages=[{"role": "assistant", "content": "", "tool_calls": [CALL]}])
    changed = row.with_texts(['[EMAIL "1"]', "b"])
    arguments = changed.columns["messages"][0]["tool_calls"][0]["function"]["arguments"]
    assert orjson.loads(arguments) == {"to": '[EMAIL "1"]', "cc": ["b", 3]}


def test_arguments_that_are_no_json_are_one_text() -> None:
    call = {"type": "function", "function": {"name": "run", "arguments": "ls -la"}}
    row = _row("messages", messages=[{"role": "assistant", "content": "", "tool_calls": [call]}])
    assert [part.text for part in row.parts()] == ["ls -la"]
    assert [part.text for part in row.with_texts(["ls"]).parts()] == ["ls"]
