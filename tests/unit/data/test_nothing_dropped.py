"""Nothing in a file is changed or left out without a word: numbers, nulls, columns, labels."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.data.data_factories import byte_level, make_job, write_jsonl
from training.config.data import Source
from training.data.prepare import Prepared, prepare
from training.data.readers.formats import read_file
from training.data.readers.json_values import DecimalText, parse_json
from training.data.readers.records import BadRecord, SourceRecord
from training.data.schema.rows import CompletionRow, DialogueRow, PromptRow, RowError, UnpairedRow
from training.data.schema.schema_reader import SchemaReader
from training.errors import DataError

USER = {"role": "user", "content": "hi"}
SAID = {"role": "assistant", "content": "hello"}


def records(path: Path) -> list[SourceRecord]:
    read = list(read_file(path, path.name))
    assert not any(isinstance(record, BadRecord) for record in read), read
    return [record for record in read if isinstance(record, SourceRecord)]


def prepared(path: Path, tmp_path: Path, **data: Any) -> Prepared:
    job = make_job(path, template="chatml", max_length=2048, **data)
    return prepare(job, byte_level(), cache_dir=tmp_path / "cache", run_dir=tmp_path / "run")


def calls_of(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                USER,
                {"role": "assistant", "content": "", "tool_calls": [{"function": tool}]},
            ],
            "tools": [{"function": {"name": tool["name"], "parameters": tool["arguments"]}}],
        }
        for tool in tools
    ]


@pytest.mark.parametrize(
    "tools",
    [
        [{"name": "wx", "arguments": {"city": "Rome"}}, {"name": "add", "arguments": {"a": 1}}],
        [
            {"name": "a", "arguments": {"deep": [{"x": 1}, {"y": "b"}]}},
            {"name": "b", "arguments": {"other": {"z": [1, 2]}}},
        ],
    ],
)
def test_absent_keys_of_a_table_are_not_nulls(tools: list[dict[str, Any]], tmp_path: Path) -> None:
    rows = calls_of(tools)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    write_jsonl(tmp_path / "a.jsonl", rows)
    table, lines = records(tmp_path / "a.parquet"), records(tmp_path / "a.jsonl")
    assert [record.values for record in table] == [record.values for record in lines]
    assert "null" not in json.dumps([record.values for record in table])


def test_a_null_that_the_data_states_stays(tmp_path: Path) -> None:
    rows = calls_of([{"name": "wx", "arguments": {"city": None}}])
    (record,) = records(write_jsonl(tmp_path / "a.jsonl", rows))
    assert record.values == rows[0]


@pytest.mark.parametrize(
    "text",
    [
        "1267650600228229401496703205376", "-12345678901234567890123", "18446744073709551616",
        "9223372036854775807", "19.90", "1e5", "0.1", "1.0", "100", "0.12345678901234567890",
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_numbers_are_kept_as_the_data_has_them(text: str, suffix: str, tmp_path: Path) -> None:
    arguments = f'{{"to": {text}, "list": [{text}]}}'
    path = tmp_path / f"a{suffix}"
    row = f'{{"prompt": "x", "completion": {text}, "arguments": {arguments}}}'
    path.write_text(row if suffix == ".jsonl" else f"[{row}]")
    (record,) = records(path)
    assert record.values["arguments"] == json.loads(arguments)
    read = SchemaReader(Source(source="x"), "dialogue").read(record)
    assert isinstance(read, CompletionRow) and read.completion == text
    asked = SchemaReader(Source(source="x", columns={"reference": "completion"}), "prompt")
    prompt = asked.read(record)
    assert isinstance(prompt, PromptRow) and prompt.reference == text
    call = {"role": "assistant", "tool_calls": [{"name": "pay", "arguments": arguments}]}
    dialogue = SchemaReader(Source(source="x"), "dialogue").read(
        SourceRecord("x:1", {"messages": [USER, call]})
    )
    assert isinstance(dialogue, DialogueRow)
    written = dialogue.messages[1]["tool_calls"][0]["function"]["arguments"]
    assert json.dumps(written) == json.dumps(json.loads(arguments))


def test_a_decimal_survives_other_processes() -> None:
    number = parse_json('{"a": 19.90}')["a"]
    assert isinstance(number, DecimalText)
    copied = pickle.loads(pickle.dumps(number))
    assert str(copied) == "19.90" and copied == 19.9 and json.dumps(copied) == "19.9"


@pytest.mark.parametrize("first", [None, "", "perhaps"])
@pytest.mark.parametrize("bad", [False, 0, "0", "false"])
@pytest.mark.parametrize(
    "values", [{"prompt": "q", "completion": "BAD"}, {"messages": [USER, SAID]}]
)
def test_a_bad_answer_is_refused_in_any_row(first: Any, bad: Any, values: dict[str, Any]) -> None:
    reader = SchemaReader(Source(source="x"), "dialogue")
    reader.read(SourceRecord("x:1", {**values, "label": first}))
    with pytest.raises(RowError, match="bad ones too"):
        reader.read(SourceRecord("x:2", {**values, "label": bad}))
    with pytest.raises(DataError, match="bad ones too"):
        SchemaReader(Source(source="x"), "dialogue").read(
            SourceRecord("x:1", {**values, "label": bad})
        )


def test_a_label_column_without_judgements_is_ignored() -> None:
    values = {"prompt": "q", "completion": "a", "label": 0}
    stated = SchemaReader(Source(source="x", shape="prompt_completion"), "dialogue")
    assert isinstance(stated.read(SourceRecord("x:1", values)), CompletionRow)
    topics = SchemaReader(Source(source="x"), "dialogue")
    assert isinstance(topics.read(SourceRecord("x:1", {**values, "label": "sport"})), CompletionRow)
    assert topics.unused == {"label"}


def test_a_null_in_the_first_row_does_not_settle_the_shape() -> None:
    reader = SchemaReader(Source(source="x"), "dialogue")
    reader.read(SourceRecord("x:1", {"messages": None, "prompt": "q", "answer": "a"}))
    row = reader.read(
        SourceRecord("x:2", {"messages": [USER, SAID], "prompt": None, "answer": None})
    )
    assert isinstance(row, DialogueRow) and reader.shapes == ("messages", "prompt_completion")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"Question": "Why?", "Complex_CoT": "long", "Response": "So."}, ["Complex_CoT"]),
        ({"problem": "1+1", "solution": "add", "answer": "2"}, ["solution"]),
        ({"question": "Which?", "choices": ["a", "b"], "answer": 0}, ["choices"]),
        ({"messages": [USER, SAID], "context": "In Rome.", "empty": None}, ["context"]),
        ({"messages": [USER, {**SAID, "plan": "look", "id": "7"}]},
         ["messages[].id", "messages[].plan"]),
        ({"messages": json.dumps([USER, {**SAID, "plan": "look"}])}, ["messages[].plan"]),
        ({"id": 1, "question": "Why?", "answer": "So.", "source": "web"}, []),
    ],
)  # fmt: skip
def test_columns_and_keys_that_are_not_read_are_named(
    values: dict[str, Any], named: list[str], tmp_path: Path
) -> None:
    run = prepared(write_jsonl(tmp_path / "a.jsonl", [values] * 2), tmp_path)
    warned = [warning for warning in run.report.warnings if "not read" in warning]
    assert len(warned) == bool(named)
    for name in named:
        assert name in warned[0]
        assert name in run.report.sources[0].columns_unused
    assert "empty" not in str(run.report.sources[0].columns_unused)


def test_unread_columns_are_named_with_the_rows_that_have_them(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "q", "completion": "a", "plan": "look", "id": "1"},
        {"prompt": "q", "completion": "b", "plan": "", "id": "2"},
        {"prompt": "q", "completion": "c", "plan": "see", "id": "3"},
        {"messages": [USER, {**SAID, "mood": "good"}]},
    ]
    run = prepared(write_jsonl(tmp_path / "a.jsonl", rows), tmp_path)
    assert run.report.sources[0].columns_unused == {"id": 3, "messages[].mood": 1, "plan": 2}
    (warning,) = [line for line in run.report.warnings if "not read" in line]
    assert "messages[].mood (1 rows), plan (2 rows)." in warning and "id (" not in warning
    data = json.loads((tmp_path / "run/data.json").read_text())
    assert data["sources"][0]["columns_unused"]["plan"] == 2


@pytest.mark.parametrize("column", ["messages", "conversations"])
@pytest.mark.parametrize("first", ["text", "conversation"])
def test_pretraining_prefers_text_to_a_conversation_row_by_row(
    column: str, first: str, tmp_path: Path
) -> None:
    conversation = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "said"}]
    rows = [
        {"text": "a document", column: conversation},
        {"text": "", column: conversation},
        {"text": None, column: conversation},
        {"text": "another document", column: None},
    ]
    if first == "conversation":
        rows.reverse()
        rows[0], rows[2] = rows[2], rows[0]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    job = make_job(path, method="pretrain", template="chatml", shuffle=False)
    run = prepare(job, byte_level(), cache_dir=tmp_path / "cache", run_dir=tmp_path / "run")
    texts = sorted(byte_level().decode(run.train[i]["input_ids"]) for i in range(4))
    chat = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nsaid<|im_end|>"
    assert texts == [chat, chat, "a document<|im_end|>", "another document<|im_end|>"]
    assert run.report.sources[0].columns_unused == {column: 1}
    # Fine-tuning learns the conversation.
    reader = SchemaReader(Source(source="x"), "dialogue")
    assert isinstance(
        reader.read(SourceRecord("x:1", {"text": "a", column: [USER, SAID]})), DialogueRow
    )


def test_an_unread_conversation_next_to_texts_is_reported(tmp_path: Path) -> None:
    rows = [{"text": "a document", "messages": [USER, SAID], "notes": "x"}] * 2
    job = make_job(write_jsonl(tmp_path / "a.jsonl", rows), method="pretrain")
    run = prepare(job, byte_level(), cache_dir=tmp_path / "cache", run_dir=tmp_path / "run")
    (warning,) = [line for line in run.report.warnings if "not read" in line]
    assert "messages (2 rows)" in warning and "notes" not in warning


def test_an_answer_in_json_of_its_own_format_stays_text() -> None:
    """An object with a role and no content is no message: its other keys would be lost."""
    answer = '{"role": "agent", "api": {"get_menu_items": {"query": "espresso"}}}'
    reader = SchemaReader(Source(source="x"), "unpaired")
    values = {"prompt": "An espresso please", "completion": answer, "label": True}
    row = reader.read(SourceRecord("x:1", values))
    assert isinstance(row, UnpairedRow) and row.completion == answer
    assert not reader.unused
    message = '{"role": "assistant", "content": "Coming!"}'
    row = reader.read(SourceRecord("x:2", {**values, "completion": message}))
    assert isinstance(row, UnpairedRow) and row.completion == [
        {"role": "assistant", "content": "Coming!"}
    ]


def test_unread_columns_of_preferences_are_named() -> None:
    reader = SchemaReader(Source(source="x"), "preference")
    values = {"prompt": "q", "chosen": "a", "rejected": "b", "rationale": "because"}
    reader.read(SourceRecord("x:1", values))
    assert reader.unused == {"rationale"}
