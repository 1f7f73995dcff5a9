"""Parquet shards of prepared rows, with a fixed schema for each shape."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from preparation.passes.building import RESULT
from preparation.rows import PreparedRow
from training.errors import DataError

_GROUP_ROWS = 2_000
_TEXT = pa.string()
_CALL = pa.struct(
    [
        ("id", _TEXT),
        ("type", _TEXT),
        ("function", pa.struct([("name", _TEXT), ("arguments", _TEXT)])),
    ]
)
_MESSAGES = pa.list_(
    pa.struct(
        [
            ("role", _TEXT),
            ("content", _TEXT),
            ("reasoning_content", _TEXT),
            ("name", _TEXT),
            ("tool_call_id", _TEXT),
            ("tool_calls", pa.list_(_CALL)),
            ("weight", pa.int8()),
        ]
    )
)
_TYPES = {"margin": pa.float64(), "label": pa.bool_(), "messages": _MESSAGES}
_ROW_COLUMNS = ("row_id", "row_source", "row_tags", "row_group")
"""Columns in addition to those of the shape: id, label of the source, tags as JSON text, and name
of the group of rows that belong together."""


class ShardWriter:
    """Writer of the shards of one unit: one file for each split, shape and set of columns.

    Files of one shape with different columns would make absent parts null, which readers do not
    take for absent.

    Args:
        folder: datatrove's `DataFolder` of the preparation.
        rank: Number of the unit.
    """

    def __init__(self, folder: Any, rank: int):
        self._folder = folder
        self._rank = rank
        self._shards: dict[tuple[str, str, tuple[str, ...]], _Shard] = {}

    def __enter__(self) -> ShardWriter:
        """Return the writer."""
        return self

    def write(self, split: str, row: PreparedRow, group: str) -> None:
        """Write a row to the shard of its split and shape.

        Args:
            split: Side of the row.
            row: The row.
            group: Name of its group.
        """
        variant = tuple(
            f"{name}-messages" if _holds_messages(name, value) else name
            for name, value in row.columns.items()
        )
        key = (split, row.shape, tuple(sorted(variant)))
        if key not in self._shards:
            number = sum(k[:2] == key[:2] for k in self._shards)
            suffix = f"-{number}" if number else ""
            path = f"{RESULT}/{split}/{self._rank:05d}-{row.shape}{suffix}.parquet"
            self._shards[key] = _Shard(self._folder, path, row)
        self._shards[key].write(row, group)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Complete the shards."""
        for shard in self._shards.values():
            shard.close()


def _holds_messages(name: str, value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else None
    return name != "messages" and (isinstance(first, dict | list))


class _Shard:
    """Parquet file of rows with the same columns."""

    def __init__(self, folder: Any, path: str, row: PreparedRow):
        self._path = path
        self._free = row.shape == "prompt"
        self._names = list(row.columns)
        self._schema = None if self._free else _schema(row)
        self._file = folder.open(path, "wb")
        self._writer: pq.ParquetWriter | None = None
        self._rows: list[dict[str, Any]] = []

    def write(self, row: PreparedRow, group: str) -> None:
        values = {name: row.columns[name] for name in self._names}
        tags = orjson.dumps(row.tags, option=orjson.OPT_SORT_KEYS).decode()
        facts = (row.id, row.source, tags, group)
        self._rows.append(values | dict(zip(_ROW_COLUMNS, facts, strict=True)))
        if len(self._rows) >= _GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()
        self._file.close()

    def _flush(self) -> None:
        """Write the pending rows as a row group.

        Raises:
            DataError: A column of prompts has values of several types.
        """
        if not self._rows:
            return
        try:
            table = pa.Table.from_pylist(self._rows, schema=self._schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(
                f"{self._rows[0]['row_id']} to {self._rows[-1]['row_id']}: a column has values of "
                f"several types, which a Parquet file cannot hold: {error}. Make them all text"
            ) from None
        if self._writer is None:
            self._schema = table.schema
            self._writer = pq.ParquetWriter(self._file, table.schema, compression="zstd")
        self._writer.write_table(table)
        self._rows = []


def _schema(row: PreparedRow) -> pa.Schema:
    """Return the schema of a row's shape; the columns of prompts are inferred from their values."""
    fields = []
    for name, value in row.columns.items():
        if _holds_messages(name, value):
            nested = name == "answers"
            fields.append((name, pa.list_(_MESSAGES) if nested else _MESSAGES))
        elif name == "answers":
            fields.append((name, pa.list_(_TEXT)))
        else:
            fields.append((name, _TYPES.get(name, _TEXT)))
    return pa.schema([*fields, *((name, _TEXT) for name in _ROW_COLUMNS)])
