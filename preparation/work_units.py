"""Units of work: the sources of a preparation, divided by size and not by number of workers.

Workers take units one by one, so that the result depends neither on their number nor on where they
run. A unit is some small files, one file, or a range of a large JSON Lines or Parquet file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from preparation.config.source import PreparedSource
from preparation.documents import document_records, is_document
from preparation.source_changes import FileState, check_unchanged
from training.data.readers.formats import kind_of, read_file
from training.data.readers.records import START, BadRecord, SourcePosition, SourceRecord
from training.data.readers.sources import ResolvedSource

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileRange:
    """Range of a file.

    Attributes:
        source: Index of its source in the job.
        path: The file; empty for a builtin source.
        label: Prefix of the ids of its rows.
        start: Position of the first record.
        end: Byte offset (JSON Lines) or row (Parquet) after the last record; None for the rest.
        bytes: Size on disk.
        is_document: Whether the file is one document, whose text is extracted.
        state: State of the file before the plan read it; None for a builtin source.
    """

    source: int
    path: str
    label: str
    start: SourcePosition
    end: int | None
    bytes: int
    is_document: bool = False
    state: FileState | None = None

    def records(self) -> Iterator[SourceRecord | BadRecord]:
        """Yield the records of the range.

        Raises:
            DataError: The file cannot be read.
        """
        path = Path(self.path)
        if self.is_document:
            yield from document_records(path, self.label)
            return
        by_offset = kind_of(path) == "jsonl"
        for record in read_file(path, self.label, self.start):
            position = record.position.offset if by_offset else record.position.number
            if self.end is not None and position >= self.end:
                return
            yield record


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """Ranges of files that one worker reads in order."""

    ranges: tuple[FileRange, ...]

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return sum(part.bytes for part in self.ranges)


def check_files(units: Iterable[WorkUnit]) -> None:
    """Check that the files of units are as they were when the plan read them.

    Raises:
        DataError: One is not; the error lists all.
    """
    states = {part.path: part.state for unit in units for part in unit.ranges}
    check_unchanged((Path(path), state) for path, state in states.items() if state is not None)


def divide(
    located: Sequence[ResolvedSource], sources: Sequence[PreparedSource], unit_bytes: int
) -> tuple[list[WorkUnit], str]:
    """Return the units of all sources, and a digest of their content.

    Args:
        located: The sources, located.
        sources: The same as the job names them.
        unit_bytes: Size of a unit.

    Raises:
        OSError: A file cannot be read.
    """
    units: list[WorkUnit] = []
    digest = hashlib.sha256()
    for index, (resolved, source) in enumerate(zip(located, sources, strict=True)):
        pending: list[FileRange] = []
        if not resolved.files:
            digest.update(resolved.digest().encode())
            units.append(WorkUnit((FileRange(index, "", resolved.label, START, None, 0),)))
        for path, label in resolved.files:
            state = FileState.of(path)
            ranges = list(_ranges(index, path, label, unit_bytes, digest))
            if is_document(path, source):
                size = path.stat().st_size
                ranges = [FileRange(index, str(path), label, START, None, size, is_document=True)]
            elif source.limit is not None:
                # The first rows are known only by reading in order, so that one worker does it.
                ranges = [FileRange(index, str(path), label, START, None, path.stat().st_size)]
            for part in ranges:
                full = sum(p.bytes for p in pending) + part.bytes > unit_bytes
                if pending and full and source.limit is None:
                    units.append(WorkUnit(tuple(pending)))
                    pending = []
                pending.append(replace(part, state=state))
        if pending:
            units.append(WorkUnit(tuple(pending)))
    return units, digest.hexdigest()


def _ranges(
    source: int, path: Path, label: str, unit_bytes: int, digest: hashlib._Hash
) -> Iterator[FileRange]:
    """Yield the ranges of a file, and add its label and content to the digest."""
    digest.update(label.encode() + b"\0")
    size = path.stat().st_size
    kind = kind_of(path)
    divided = path.suffix.lower() != ".gz" and size > unit_bytes
    if kind == "jsonl" and divided:
        yield from _line_ranges(source, path, label, unit_bytes, digest)
        return
    with path.open("rb") as stream:
        digest.update(hashlib.file_digest(stream, "sha256").digest())
    if kind == "parquet" and divided:
        yield from _row_ranges(source, path, label, unit_bytes)
    else:
        yield FileRange(source, str(path), label, START, None, size)


def _line_ranges(
    source: int, path: Path, label: str, unit_bytes: int, digest: hashlib._Hash
) -> Iterator[FileRange]:
    """Yield ranges of lines. The file is read once, for its digest and the numbers of its lines."""
    content = hashlib.sha256()
    offset = number = 0
    start = START
    with path.open("rb") as stream:
        while block := stream.read(min(_BLOCK_BYTES, unit_bytes)):
            content.update(block)
            if offset + len(block) - start.offset >= unit_bytes and b"\n" in block:
                cut = block.rindex(b"\n") + 1
                lines = number + block.count(b"\n", 0, cut)
                here = SourcePosition(offset + cut, lines)
                yield FileRange(
                    source, str(path), label, start, here.offset, here.offset - start.offset
                )
                start = here
            number += block.count(b"\n")
            offset += len(block)
    digest.update(content.digest())
    if offset > start.offset:
        yield FileRange(source, str(path), label, start, None, offset - start.offset)


def _row_ranges(source: int, path: Path, label: str, unit_bytes: int) -> Iterator[FileRange]:
    """Yield ranges of whole row groups of a Parquet file."""
    import pyarrow.parquet as pq

    metadata = pq.ParquetFile(path).metadata
    total = max(1, metadata.num_rows)
    per_row = path.stat().st_size / total
    first = row = 0
    for group in range(metadata.num_row_groups):
        row += metadata.row_group(group).num_rows
        if (row - first) * per_row >= unit_bytes or group == metadata.num_row_groups - 1:
            yield FileRange(
                source,
                str(path),
                label,
                SourcePosition(0, first),
                row,
                int((row - first) * per_row),
            )
            first = row
