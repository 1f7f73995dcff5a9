"""Conversion of rows into the providers' formats, checked by the emulator's own reading of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from emulator.managed_records import invalid_records
from launch.managed.formats import FORMATS, converter
from training.config.data import Source
from training.data.readers.records import SourceRecord
from training.data.schema.rows import RowError
from training.data.schema.schema_reader import SchemaReader

CHAT = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 2 + 2?"},
        {"role": "assistant", "content": "4"},
    ]
}
PAIR = {"prompt": "What is 2 + 2?", "chosen": "4", "rejected": "5", "system": "Be brief."}
QUESTION = {"prompt": "What is 2 + 2?", "reference": "4", "level": "easy"}
ROWS = {"dialogue": CHAT, "preference": PAIR, "prompt": QUESTION}


def convert(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return a record of a format from the columns of a row."""
    function, want = converter(name)
    reader = SchemaReader(Source(source="rows.jsonl"), want)
    return function(reader.read(SourceRecord("rows.jsonl:1", values)))


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_records_are_valid_for_the_service(name: str) -> None:
    record = convert(name, ROWS[FORMATS[name][1]])
    assert invalid_records(json.dumps(record), name) == []
    assert "2 + 2" in json.dumps(record)


def test_converse_keeps_the_system_message_apart() -> None:
    record = convert("converse", CHAT)
    assert record["schemaVersion"] == "bedrock-conversation-2024"
    assert record["system"] == [{"text": "Be brief."}]
    assert [turn["role"] for turn in record["messages"]] == ["user", "assistant"]


def test_columns_and_reference_reach_the_grader() -> None:
    assert convert("openai-prompts", QUESTION) == {
        "messages": [{"role": "user", "content": "What is 2 + 2?"}],
        "reference_answer": "4",
        "reference": "4",
        "level": "easy",
    }
    assert convert("verl", QUESTION)["reward_model"] == {"style": "rule", "ground_truth": "4"}


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("converse", {"prompt": "[EOS] hi", "completion": "a"}, "reserved word"),
        ("converse", {"messages": CHAT["messages"][:2]}, "does not end with an answer"),
        (
            "converse",
            {"messages": [*CHAT["messages"], {"role": "assistant", "content": "and"}]},
            "must alternate",
        ),
        (
            "prompt-completion",
            {"messages": [*CHAT["messages"], *CHAT["messages"][1:]]},
            "has 4 turns",
        ),
        ("openai-chat", {"messages": CHAT["messages"], "tools": [{"type": "function"}]}, "tools"),
        ("hf-preference", {"prompt": "a", "chosen": " ", "rejected": "b"}, "answer is empty"),
    ],
)
def test_rows_that_a_service_would_reject(name: str, values: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        convert(name, values)
