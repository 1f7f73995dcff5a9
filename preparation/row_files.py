"""Files of rows between two passes, each signed with a digest of its ids.

datatrove drops duplicates by their position in a file. A later pass that reads other rows than an
earlier one would drop the wrong ones, silently; it therefore compares the digests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

import orjson

from preparation.passes.building import close_unfinished
from preparation.rows import PreparedRow
from training.errors import DataError

ROWS = "rows"
_SUFFIX = ".jsonl.zst"


class StoredRow(NamedTuple):
    """Row of a row file, with the hash of its content."""

    row: PreparedRow
    content: str


@dataclass
class RowFileWriter:
    """Writer of the rows of one unit.

    Args:
        folder: datatrove's `DataFolder` of the preparation.
        rank: Number of the unit.
    """

    folder: Any
    rank: int

    def __enter__(self) -> RowFileWriter:
        """Open the file."""
        import pyarrow as pa

        self._ids = hashlib.sha256()
        self._rows = 0
        self._file = self.folder.open(_rows_path(self.rank), "wb")
        self._stream = pa.CompressedOutputStream(pa.PythonFile(self._file, "w"), "zstd")
        return self

    def write(self, row: PreparedRow, content: str) -> None:
        """Append a row.

        Args:
            row: The row.
            content: Hash of its content.
        """
        fields = [row.id, row.source, row.shape, row.columns, row.group, row.tags]
        fields += [row.tags_of_source, row.report_by, content]
        self._stream.write(orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE))
        _add_id(self._ids, row.id)
        self._rows += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file, and sign it if it is complete."""
        if kind is not None:
            close_unfinished(self._stream, self._file)
            return
        self._stream.close()
        self._file.close()
        signature = {"rows": self._rows, "ids": self._ids.hexdigest()}
        with self.folder.open(_signature_path(self.rank), "wb") as stream:
            stream.write(orjson.dumps(signature))


def read_lines(folder: Any, rank: int) -> Iterator[bytes]:
    """Yield the lines of a row file; `stored_row` parses one."""
    import pyarrow as pa

    with folder.open(_rows_path(rank), "rb") as file:
        stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")
        begun: list[bytes] = []  # joined once, as a line may be many blocks long
        while block := stream.read(1 << 20):
            first, *lines = block.split(b"\n")
            begun.append(first)
            if lines:
                yield b"".join(begun)
                *whole, rest = lines
                yield from whole
                begun = [rest]
        assert not any(begun), f"{_rows_path(rank)} does not end with a line end"


def stored_row(line: bytes) -> StoredRow:
    """Return the row of a line."""
    id_, source, shape, columns, group, tags, names, report_by, content = orjson.loads(line)
    row = PreparedRow(id_, source, shape, columns, group, tags, tuple(names), report_by)
    return StoredRow(row, content)


def read_rows(folder: Any, rank: int) -> Iterator[StoredRow]:
    """Yield the rows of a file, and compare their ids with its signature at the end.

    Raises:
        DataError: The rows are not those that were signed.
    """
    ids, rows = hashlib.sha256(), 0
    for line in read_lines(folder, rank):
        stored = stored_row(line)
        _add_id(ids, stored.row.id)
        rows += 1
        yield stored
    with folder.open(_signature_path(rank), "rb") as stream:
        signature = orjson.loads(stream.read())
    if signature != {"rows": rows, "ids": ids.hexdigest()}:
        raise DataError(
            f"{_rows_path(rank)}: it holds {rows} rows, and not the {signature['rows']} rows whose "
            "duplicates were found. Start the preparation again with --fresh"
        )


def _add_id(ids: hashlib._Hash, id_: str) -> None:
    ids.update(id_.encode())
    ids.update(b"\n")


def _rows_path(rank: int) -> str:
    return f"{ROWS}/{rank:05d}{_SUFFIX}"


def _signature_path(rank: int) -> str:
    return f"{ROWS}/{rank:05d}.signature.json"
