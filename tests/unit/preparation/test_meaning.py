"""A prepared row means what the source's row meant: read again, it is the same typed row."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import orjson
import pytest

from preparation.build import build
from preparation.config.load import parse_preparation
from preparation.plan import plan
from training.config.data import Source
from training.data.readers.records import SourceRecord
from training.data.readers.sources import locate
from training.data.schema.rows import Row
from training.data.schema.schema_reader import SchemaReader

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CALL = {"id": "c1", "function": {"name": "f", "arguments": '{"b": 19.90, "a": "x"}'}}
OTHER_CALL = {"function": {"name": "g", "arguments": {"z": [1, None, {"k": ""}]}}}
TURNS = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Wait", "weight": 0},
    {"role": "user", "content": "And?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL, OTHER_CALL]},
    {"role": "tool", "content": "42", "tool_call_id": "c1", "name": "f"},
    {"role": "assistant", "content": "It is 42", "reasoning_content": "easy"},
]
SIDE = [{"role": "assistant", "content": "yes"}]
ROWS: dict[str, tuple[Any, dict[str, Any]]] = {
    "text": ("text", {"text": "once\nupon a time"}),
    "prompt and completion": ("dialogue", {"question": "1+1?", "answer": "2"}),
    "no prompt": ("dialogue", {"prompt": "", "completion": "only this"}),
    "alpaca": ("dialogue", {"instruction": "Add", "input": "1 1", "output": "2", "system": "S"}),
    "tools of a prompt": ("dialogue", {"prompt": "p", "completion": "c", "tools": TOOLS}),
    "history": ("dialogue", {"prompt": "p", "completion": "c", "history": [["a", "b"]]}),
    "messages": ("dialogue", {"messages": TURNS, "tools": TOOLS}),
    "a prompt of messages": ("dialogue", {"prompt": TURNS[:4], "completion": SIDE}),
    "sharegpt": (
        "dialogue",
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    ),
    "preference": ("preference", {"prompt": "p", "chosen": "c", "rejected": "r", "margin": 0.5}),
    "preference of conversations": (
        "preference",
        {
            "chosen": [*TURNS[:2], {"role": "assistant", "content": "c"}],
            "rejected": [*TURNS[:2], {"role": "assistant", "content": "r"}],
        },
    ),
    "transcripts": (
        "preference",
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
    ),
    "pair after messages": ("preference", {"messages": TURNS[:2], "chosen": "c", "rejected": "r"}),
    "ranking": ("preference", {"prompt": "p", "answers": ["a", "b", "c"], "ranks": [2, 1, 2]}),
    "ranking in dimensions": (
        "preference",
        {"prompt": "p", "answers": ["a", "b"], "ranks": {"help": [1, 2], "harm": [2, 1]}},
    ),
    "unpaired": ("unpaired", {"prompt": "p", "completion": "c", "label": False}),
    "labelled conversation": ("unpaired", {"messages": TURNS, "label": True}),
    "prompt": ("prompt", {"prompt": "p", "reference": "19.90"}),
    "prompt with columns": ("prompt", {"prompt": "p", "tests": ["assert f()"], "level": 3}),
    "prompt with an answer": ("prompt", {"prompt": TURNS[:2], "answer": 7}),
}

SETTINGS = {"prompt with an answer": {"shape": "prompt"}}
"""A prompt with an answer is a completion, unless the source says that it is a prompt."""


def _typed(values: dict[str, Any], want: Any) -> Row:
    return SchemaReader(Source(source="a"), want).read(SourceRecord("a:1", values))


def _comparable(row: Row) -> dict[str, Any]:
    """Return a row without its id and with tool arguments as text; context alone is unlearned."""
    value = {field.name: _plain(getattr(row, field.name)) for field in fields(row)}
    value.pop("id")
    first = value.pop("answers_from", 0)
    for index, message in enumerate(value.get("messages", ())):
        if message["role"] == "assistant" and index < first:
            message["learned"] = False
    if "columns" in value:
        value["columns"] = {
            name: item for name, item in value["columns"].items() if not name.startswith("row_")
        }
    return value


def _plain(value: Any) -> Any:
    """Return a value with the arguments of tool calls as plain objects."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", ROWS)
def test_a_prepared_row_means_the_same(name: str, tmp_path: Path) -> None:
    want, values = ROWS[name]
    (tmp_path / "a.jsonl").write_bytes(orjson.dumps(values) + b"\n")
    document = {
        "name": "same",
        "prepare": {
            "sources": {"source": str(tmp_path / "a.jsonl"), **SETTINGS.get(name, {})},
            "steps": [{"step": "normalise"}],
            "output": str(tmp_path / "out"),
        },
    }
    folder = build(plan(parse_preparation(document, "job.yaml")), lambda *_: None)
    (record,) = [record for _, record in locate(Source(source=str(folder))).records()]
    assert isinstance(record, SourceRecord)
    if name == "messages":
        assert CALL["function"]["arguments"] in orjson.dumps(record.values).decode().replace(
            "\\", ""
        )
    assert _comparable(_typed(record.values, want)) == _comparable(_typed(values, want))
