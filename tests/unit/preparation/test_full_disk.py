"""A disk that is full: one error, and no second one while files are closed."""

from __future__ import annotations

import pathlib
from typing import IO, Any

import pyarrow as pa
import pytest

from preparation.duplicates.exchange import ExchangeWriter
from preparation.row_files import RowFileWriter
from preparation.rows import PreparedRow


class FullFolder:
    """Folder on a disk without room."""

    def open(self, path: str, mode: str) -> IO[Any]:
        return pathlib.Path("/dev/full").open(mode)


def test_an_unfinished_file_of_rows_adds_no_error() -> None:
    row = PreparedRow("a:1", "a", "text", {"text": "word " * 100})
    with pytest.raises(KeyboardInterrupt), RowFileWriter(FullFolder(), 0) as writer:
        writer.write(row, "content")
        raise KeyboardInterrupt
    with pytest.raises(OSError, match="No space left"), RowFileWriter(FullFolder(), 0) as writer:
        writer.write(row, "content")


def test_an_unfinished_exchange_adds_no_error() -> None:
    schema = pa.schema([("name", pa.string())])
    with pytest.raises(KeyboardInterrupt), ExchangeWriter(FullFolder(), "a", schema, 1) as writer:
        writer.put(0, {"name": "word"})
        raise KeyboardInterrupt
    with (
        pytest.raises(OSError, match="No space left"),
        ExchangeWriter(FullFolder(), "a", schema, 1) as writer,
    ):
        writer.put(0, {"name": "word"})
