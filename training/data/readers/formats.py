"""Readers of file formats: JSON, JSON Lines, CSV, Parquet and plain text, each also gzipped.

A record that cannot be read is yielded as a `BadRecord`, so that the caller decides whether to
stop; a file that cannot be read raises `DataError`.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import orjson

from training.data.readers.arrow_values import without_absent_keys
from training.data.readers.csv_files import read_csv
from training.data.readers.json_hints import json_hint
from training.data.readers.json_values import parse_json
from training.data.readers.pandas_json import check_orientation
from training.data.readers.plaintext import read_text
from training.data.readers.records import START, BadRecord, SourcePosition, SourceRecord, abbreviate
from training.errors import DataError

_UTF8_MARK = b"\xef\xbb\xbf"
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""First bytes of the text that Git LFS stores in place of a file
(https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md)."""


def kind_of(path: Path) -> str | None:
    """Return the format of `path` by its suffix (`jsonl`, `csv`, …), or None if it is unknown."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return _KINDS.get(suffixes[-1]) if suffixes else None


def read_file(
    path: Path, label: str, start: SourcePosition = START
) -> Iterator[SourceRecord | BadRecord]:
    """Yield the records of `path`, starting at a position.

    Args:
        path: Existing file with a known suffix.
        label: Prefix of the origins, usually the file's name.
        start: Position of the first record.

    Raises:
        DataError: The file as a whole cannot be read: broken compression, no rows, no header.
    """
    kind = kind_of(path)
    if kind is None:
        raise DataError(
            f"{path}: not a supported file format. "
            f"Give {', '.join(sorted(_KINDS))}, each also with .gz"
        )
    with _errors_explained(path):
        _check_head(path, kind)
        yield from _READERS[kind](path, label, start)


def _check_head(path: Path, kind: str) -> None:
    """Check that the first bytes of a file match its suffix.

    Raises:
        DataError: The file has another format.
    """
    with path.open("rb") as stream:
        if stream.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise DataError(
                f"{path}: it is a pointer of Git LFS, not the data: the repository was cloned "
                "without its large files. Run `git lfs pull` in the clone, or download the file"
            )
    with open_binary(path) as stream:
        head = stream.read(64)
    if kind == "parquet":
        return
    for magic, what in _HEADS.items():
        if head.startswith(magic):
            raise DataError(f"{path}: {what}")
    if b"\0" in head:
        what = "UTF-16" if head[1::2].strip(b"\0") == b"" or head[::2].strip(b"\0") == b"" else ""
        raise DataError(
            f"{path}: it is {what or 'not text'} (a zero byte among its first {len(head)} bytes, "
            "and no byte order mark). Save it as UTF-8"
        )


@contextmanager
def _errors_explained(path: Path) -> Iterator[None]:
    """Convert the errors of a corrupt or unreadable file.

    Raises:
        DataError: The file is corrupt or cannot be read.
    """
    try:
        yield
    except EOFError:
        raise DataError(
            f"{path}: the gzip file is cut short (it ends before its end marker). "
            "Copy or download it again"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        fix = "Copy it again"
        if isinstance(error, gzip.BadGzipFile) and "Not a gzipped file" in str(error):
            fix = "If it is not compressed, rename it without .gz"
        raise DataError(f"{path}: not a valid gzip file ({error}). {fix}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def open_binary(path: Path) -> IO[bytes]:
    """Open `path` for reading, decompressed."""
    if path.suffix.lower() == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return path.open("rb")


def _lines(path: Path, label: str, start: SourcePosition) -> Iterator[SourceRecord | BadRecord]:
    """Yield the records of JSON Lines; blank lines are skipped.

    Raises:
        DataError: The first line holds a complete table.
    """
    with open_binary(path) as stream:
        stream.seek(start.offset)
        offset, number = start.offset, start.number
        for line in stream:
            here = SourcePosition(offset, number)
            offset += len(line)
            number += 1
            if line.isspace():
                continue
            if not offset - len(line) and line.startswith(_UTF8_MARK):
                line = line.removeprefix(_UTF8_MARK)
            record = _parsed(line, f"{label}:{number}", here)
            if number == 1 and isinstance(record, SourceRecord):
                check_orientation(record.values, path)
            yield record


def _parsed(line: bytes, origin: str, position: SourcePosition) -> SourceRecord | BadRecord:
    try:
        values = parse_json(line)
    except orjson.JSONDecodeError as error:
        return BadRecord(origin, _json_fault(line, error), position)
    if not isinstance(values, dict):
        reason = f"a record is an object with named fields, found {abbreviate(values)}"
        return BadRecord(origin, reason, position)
    return SourceRecord(origin, values, position)


def _json_fault(line: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as broken:
        return (
            f"not UTF-8 at byte {broken.start + 1} of the line "
            f"(0x{line[broken.start]:02x}). Save the file as UTF-8"
        )
    hint = json_hint(text)
    what = f"not JSON: {error.msg} at column {error.colno}, in {abbreviate(text)}"
    return f"{what} ({hint})" if hint else what


def _json(path: Path, label: str, start: SourcePosition) -> Iterator[SourceRecord | BadRecord]:
    """Yield the records of an array of objects, of an object with one array, or of JSON Lines.

    Raises:
        DataError: The file is not JSON, or not UTF-8.
    """
    with open_binary(path) as stream:
        content = stream.read().removeprefix(_UTF8_MARK)
    try:
        document = parse_json(content)
    except orjson.JSONDecodeError as error:
        first = content.lstrip()[:1]
        if first == b"{" and len(content.splitlines()) > 1:
            yield from _lines(path, label, start)
            return
        where = f"line {error.lineno}, column {error.colno}"
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as broken:
            line = content.count(b"\n", 0, broken.start) + 1
            raise DataError(f"{path}: not UTF-8 on line {line}. Save it as UTF-8") from None
        if not content.strip():
            return
        hint = json_hint(text)
        fix = f": {hint}" if hint else ""
        raise DataError(f"{path}: not JSON: {error.msg} ({where}){fix}") from None
    for number, values in enumerate(_entries(document, path), start=1):
        if number <= start.number:
            continue
        position = SourcePosition(0, number - 1)
        if isinstance(values, dict):
            yield SourceRecord(f"{label}:{number}", values, position)
        else:
            reason = f"entry {number} is not an object with named fields: {abbreviate(values)}"
            yield BadRecord(f"{label}:{number}", reason, position)


def _entries(document: Any, path: Path) -> list[Any]:
    check_orientation(document, path)
    if isinstance(document, list):
        return document
    if isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list)]
        items = lists[0] if len(lists) == 1 else []
        turns = bool(items) and all(
            isinstance(item, dict) and {"role", "from"} & item.keys() for item in items
        )
        if len(lists) == 1 and not turns and all(isinstance(item, dict) for item in items):
            return lists[0]
        return [document]
    raise DataError(f"{path}: a JSON file holds an array of objects, found {abbreviate(document)}")


def _csv(path: Path, label: str, start: SourcePosition) -> Iterator[SourceRecord | BadRecord]:
    with open_binary(path) as stream:
        yield from read_csv(stream, path, label, start)


def _parquet(path: Path, label: str, start: SourcePosition) -> Iterator[SourceRecord | BadRecord]:
    """Yield the records of Parquet by row group; groups before `start` are not read.

    Raises:
        DataError: The file is corrupt.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        source: Any = path
        if path.suffix.lower() == ".gz":
            with open_binary(path) as stream:
                source = io.BytesIO(stream.read())
        file = pq.ParquetFile(source)
        number = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if number + rows > start.number:
                yield from _parquet_group(file, group, number, label, start)
            number += rows
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: not a valid Parquet file: {abbreviate(str(error), 160)}"
        ) from None


def _parquet_group(
    file: Any, group: int, number: int, label: str, start: SourcePosition
) -> Iterator[SourceRecord]:
    for batch in file.iter_batches(batch_size=1024, row_groups=[group]):
        for values in batch.to_pylist():
            number += 1
            if number > start.number:
                position = SourcePosition(0, number - 1)
                yield SourceRecord(f"{label}:{number}", without_absent_keys(values), position)


def _text(path: Path, label: str, start: SourcePosition) -> Iterator[SourceRecord | BadRecord]:
    with open_binary(path) as stream:
        yield from read_text(stream, label, start)


_HEADS = {
    b"\xff\xfe": "it is UTF-16. Save it as UTF-8",
    b"\xfe\xff": "it is UTF-16. Save it as UTF-8",
    b"\x1f\x8b": "it is gzipped, and its name does not say so. Rename it to end in .gz",
    b"\x28\xb5\x2f\xfd": "it is compressed with zstd. Decompress it (zstd -d), or use gzip",
    b"BZh": "it is compressed with bzip2. Decompress it (bunzip2), or use gzip",
    b"PK\x03\x04": "it is a zip archive (a workbook is one too). Unpack it, or save it as CSV",
    b"PAR1": "it is a Parquet file, and its name does not say so. Rename it to end in .parquet",
}
"""First bytes of other formats, with the error message for each."""

_KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
}
_READERS: dict[str, Callable[[Path, str, SourcePosition], Iterator[SourceRecord | BadRecord]]] = {
    "jsonl": _lines,
    "json": _json,
    "csv": _csv,
    "parquet": _parquet,
    "text": _text,
}
