"""Conversion of a source's records into prepared rows of a standard shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import xxhash

from preparation.config.group_report import values_of
from preparation.config.source import PreparedSource
from preparation.rows import PreparedRow, Scalar
from training.data.readers.records import SourceRecord
from training.data.schema.rows import (
    CompletionRow,
    DialogueRow,
    Message,
    PreferenceRow,
    PromptRow,
    RankingRow,
    Row,
    RowError,
    TextRow,
    ToolArguments,
    UnpairedRow,
)
from training.data.schema.schema_reader import SchemaReader
from training.errors import DataError

_READ_BY_PROMPTS = ("system", "system_prompt", "history", "context", "tools", "functions")
"""Columns that a prompt has taken in already."""


class RowConverter:
    """Reader of one source's records as prepared rows.

    Args:
        source: Source as the job names it.
        label: Label of the source in ids and counts.
        report_by: Columns of `prepare.report.by`.
    """

    def __init__(self, source: PreparedSource, label: str, report_by: Sequence[str] = ()):
        self._reader = SchemaReader(source, "any")
        self._source = source
        self._label = label
        self._report_by = report_by

    def convert(self, record: SourceRecord) -> PreparedRow:
        """Return the prepared row of a record.

        Raises:
            RowError: The record fits no shape, or its content cannot be used.
        """
        try:
            row = self._reader.read(record)
        except DataError as error:
            raise RowError(str(error).removeprefix(f"{record.origin}: ")) from None
        shape, columns = _columns(row, record, self._reader)
        if shape == "prompt":
            _check_values(columns)
        tags = self._tags(record)
        prepared = PreparedRow(
            record.origin,
            self._label,
            shape,
            columns,
            tags=tags,
            tags_of_source=tuple(tags),
            report_by=values_of(record.values, self._report_by),
        )
        return replace(prepared, group=self._group(prepared, record))

    def _tags(self, record: SourceRecord) -> dict[str, Scalar]:
        """Return the values of the columns that become tags."""
        values = {name: record.values.get(name) for name in self._source.tags}
        return {name: value for name, value in values.items() if isinstance(value, Scalar)}

    def _group(self, row: PreparedRow, record: SourceRecord) -> str:
        """Return the key of related rows: the value of a column, or the prompt.

        Raises:
            RowError: The record lacks the column.
        """
        if self._source.group_by is not None:
            if record.values.get(self._source.group_by) is None:
                raise RowError(
                    f"column {self._source.group_by} (group_by) is missing or empty; columns: "
                    f"{', '.join(record.values)}"
                )
            value = record.values[self._source.group_by]
            return f"{self._label}\0{value}"
        prompt = [row.columns.get(name) for name in ("system", "prompt")]
        if row.shape in ("text", "messages") or not any(prompt):
            return ""
        return xxhash.xxh3_128_hexdigest(orjson.dumps(prompt))


def _check_values(columns: dict[str, Any]) -> None:
    """Check that the free columns of a prompt hold values of JSON.

    Raises:
        RowError: One of them does not, such as a decimal number of a Parquet file.
    """
    for name, value in columns.items():
        try:
            orjson.dumps(value)
        except TypeError as error:
            raise RowError(
                f"column {name} ({type(value).__name__}) cannot be written as JSON: {error}. Make "
                "it text or a number, or remove it"
            ) from None


def content_hash(row: PreparedRow) -> str:
    """Return a 128-bit hash of everything a row says, independent of its id and metadata."""
    return xxhash.xxh3_128_hexdigest(
        orjson.dumps([row.shape, row.columns], option=orjson.OPT_SORT_KEYS)
    )


def _columns(row: Row, record: SourceRecord, reader: SchemaReader) -> tuple[Any, dict[str, Any]]:
    """Return the shape and the columns of a typed row; absent parts are left out."""
    if isinstance(row, TextRow):
        return "text", {"text": row.text}
    if isinstance(row, DialogueRow):
        return _dialogue_columns(row)
    if isinstance(row, PromptRow):
        return "prompt", _prompt_columns(row, record)
    asked = {"system": row.system, "prompt": _side(row.prompt), "tools": _json(row.tools)}
    if isinstance(row, CompletionRow):
        return "prompt_completion", {"prompt": row.prompt} | _present(
            **asked, completion=row.completion
        )
    if isinstance(row, PreferenceRow):
        return "preference", _present(
            **asked, chosen=_side(row.chosen), rejected=_side(row.rejected), margin=row.margin
        )
    if isinstance(row, UnpairedRow):
        return "unpaired", _present(**asked, completion=_side(row.completion), label=row.label)
    assert isinstance(row, RankingRow)
    ranks = _json(record.values[reader.columns_of(record)["ranks"]])
    return "ranking", _present(**asked, answers=[_side(a) for a in row.answers], ranks=ranks)


def _dialogue_columns(row: DialogueRow) -> tuple[Any, dict[str, Any]]:
    """Return a conversation, or a prompt of messages with the answer that alone is learned."""
    tools = _json(row.tools)
    if not row.answers_from:
        return "messages", _present(messages=_messages(row.messages), tools=tools)
    answer = row.messages[row.answers_from :]
    if len(answer) == 1 and answer[0].keys() == {"role", "content"}:
        completion: Any = answer[0]["content"]
    else:
        completion = _messages(answer)
    prompt = _messages(row.messages[: row.answers_from])
    return "prompt_completion", _present(prompt=prompt, completion=completion, tools=tools)


def _present(**columns: Any) -> dict[str, Any]:
    return {name: value for name, value in columns.items() if value not in (None, "", [])}


def _side(side: str | Sequence[Message]) -> Any:
    return side if isinstance(side, str) else _messages(side)


def _messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return messages with their arguments as JSON text and their loss weight as data has it."""
    written = []
    for message in messages:
        out = {key: value for key, value in message.items() if key not in ("learned", "tool_calls")}
        if calls := message.get("tool_calls"):
            out["tool_calls"] = [_call(call) for call in calls]
        if message.get("learned") is False:
            out["weight"] = 0
        written.append(out)
    return written


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = function["arguments"]
    if isinstance(arguments, ToolArguments):
        text = arguments.text
    else:
        text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    return {**call, "function": {"name": function["name"], "arguments": text}}


def _json(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value).decode()


def _prompt_columns(row: PromptRow, record: SourceRecord) -> dict[str, Any]:
    columns = {name: value for name, value in row.columns.items() if name not in _READ_BY_PROMPTS}
    return _present(prompt=_side(row.prompt), tools=_json(row.tools)) | columns
