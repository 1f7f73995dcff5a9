"""Files that the tasks of a pass write for the tasks of the next one.

Each task writes one file. It is a sequence of rounds, and a round holds one record batch for each
receiver, so that a receiver reads its own batches of every file and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import pyarrow as pa

from preparation.passes.building import close_unfinished

_ROUND_BYTES = 16 << 20
"""Size of the rows that a task keeps in memory before it writes them."""
_ROW_BYTES = 200
"""About the size of a row in memory without its lists."""


class ExchangeWriter:
    """Writer of the rows of one task for all receivers.

    Args:
        folder: datatrove's `DataFolder` of the preparation.
        path: Path in it.
        schema: Schema of the rows.
        receivers: Number of tasks that read them.
    """

    def __init__(self, folder: Any, path: str, schema: pa.Schema, receivers: int):
        self._folder = folder
        self._path = path
        self._schema = schema
        self._rows: list[list[Mapping[str, Any]]] = [[] for _ in range(receivers)]
        self._bytes = 0

    def __enter__(self) -> ExchangeWriter:
        """Open the file."""
        self._file = self._folder.open(self._path, "wb")
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        sink = pa.PythonFile(self._file, "w")
        self._writer = pa.ipc.new_file(sink, self._schema, options=options)
        return self

    def put(self, receiver: int, row: Mapping[str, Any], extra_bytes: int = 0) -> None:
        """Add a row.

        Args:
            receiver: Number of the task that reads it.
            row: Values of the columns.
            extra_bytes: Size of its lists.
        """
        self._rows[receiver].append(row)
        self._bytes += _ROW_BYTES + extra_bytes
        if self._bytes > _ROUND_BYTES:
            self._write_round()

    def _write_round(self) -> None:
        for rows in self._rows:
            columns = [
                pa.array([row[field.name] for row in rows], field.type) for field in self._schema
            ]
            self._writer.write_batch(pa.record_batch(columns, schema=self._schema))
            rows.clear()
        self._bytes = 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the rest and close the file."""
        if kind is not None:
            close_unfinished(self._writer, self._file)
            return
        if self._bytes:
            self._write_round()
        self._writer.close()
        self._file.close()


def read_exchange(folder: Any, path: str, receiver: int, receivers: int) -> Iterator[Any]:
    """Yield the record batches of a file that are for one task, in the order of writing.

    Args:
        folder: datatrove's `DataFolder` of the preparation.
        path: Path in it.
        receiver: Number of the task.
        receivers: Number of all tasks that read the file.
    """
    with folder.open(path, "rb") as stream:
        reader = pa.ipc.open_file(pa.PythonFile(stream, "r"))
        for index in range(receiver, reader.num_record_batches, receivers):
            batch = reader.get_batch(index)
            if batch.num_rows:
                yield batch
