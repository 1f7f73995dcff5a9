"""Endless stream of the rows of one source."""

from __future__ import annotations

from dataclasses import asdict

from training.data.readers.records import BadRecord, SourcePosition
from training.data.readers.sources import ReadCursor, ResolvedSource
from training.data.schema.rows import Row, RowError
from training.data.schema.schema_reader import SchemaReader
from training.errors import DataError


class SourceStream:
    """Endless stream of the rows of one source, which restarts when the source ends.

    Args:
        located: The source.
        reader: Reader of its records.
        limit: Number of rows to use.
    """

    def __init__(self, located: ResolvedSource, reader: SchemaReader, limit: int | None):
        self.located = located
        self.reader = reader
        self._limit = limit
        self.seek({"file": 0, "offset": 0, "number": 0, "count": 0, "epoch": 0})

    def seek(self, position: dict[str, int]) -> None:
        """Move to a position that `position` returned."""
        self._count, self._epoch = position["count"], position["epoch"]
        start = SourcePosition(position["offset"], position["number"])
        self._open(ReadCursor(position["file"], start))

    def _open(self, cursor: ReadCursor) -> None:
        self._records = self.located.records(cursor)
        self._next = next(self._records, None)

    def position(self) -> dict[str, int]:
        """Return the position of the next row."""
        self._restart_at_end()
        assert self._next is not None
        cursor, _ = self._next
        start = {"file": cursor.file, **asdict(cursor.position)}
        return {**start, "count": self._count, "epoch": self._epoch}

    def _restart_at_end(self) -> None:
        if self._next is not None and (self._limit is None or self._count < self._limit):
            return
        if not self._count:
            raise DataError(f"{self.located.source.source}: there are no rows in it")
        self._count, self._epoch = 0, self._epoch + 1
        self._open(ReadCursor())

    def next_row(self) -> Row | BadRecord:
        """Return the next row."""
        self._restart_at_end()
        assert self._next is not None
        _, record = self._next
        self._next = next(self._records, None)
        self._count += 1
        if isinstance(record, BadRecord):
            return record
        try:
            return self.reader.read(record)
        except RowError as fault:
            return BadRecord(record.origin, str(fault))
