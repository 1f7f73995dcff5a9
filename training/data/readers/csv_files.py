"""Reader of CSV and TSV, as spreadsheets and pandas write them (RFC 4180).

Spaces are part of a field, as in indented code, unless the header has them after its separators
too. Spaces before a quoted field are never content.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from training.data.readers.records import BadRecord, SourcePosition, SourceRecord, abbreviate
from training.errors import DataError

_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_FIELD_SIZE = 2**31 - 1
_SEPARATOR = re.compile(r'^"?sep=(.)"?\s*$', re.IGNORECASE)
"""First line by which spreadsheets name the separator."""
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def read_csv(
    stream: IO[bytes], path: Path, label: str, start: SourcePosition
) -> Iterator[SourceRecord | BadRecord]:
    """Yield the records of CSV or TSV with a header row; quoted fields may hold line breaks.

    Args:
        stream: The file, decompressed.
        path: Path of the file.
        label: Prefix of the origins.
        start: Position of the first record.

    Raises:
        DataError: The header is ambiguous, or lines end in CR alone.
    """
    csv.field_size_limit(_MAX_FIELD_SIZE)
    lines = _CountedLines(stream)
    head = _first_line(lines)
    named = _SEPARATOR.match(head)
    if named:
        head = _first_line(lines)
    if "\r" in head.rstrip("\r\n"):
        raise DataError(f"{path}: its lines end in CR alone. Save it with line ends of LF or CR LF")
    delimiter = named[1] if named else _delimiter(head, path)
    header = _cells(head, delimiter)
    if not any(header):
        return
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(
            f"{path}: the header names {', '.join(twice)} more than once. Rename or remove one"
        )
    if start.offset:
        stream.seek(start.offset)
        lines.offset, lines.number = start.offset, start.number
    lines.delimiter = delimiter
    yield from _csv_rows(lines, header, _is_padded(head, delimiter), label)


def _first_line(lines: _CountedLines) -> str:
    """Return the next line that is not blank; empty at the end of the file."""
    return next((line for line in lines if line.strip()), "")


def _is_padded(head: str, delimiter: str) -> bool:
    """Return whether the header has a space after its separators, which is then no content."""
    cells = next(csv.reader([head.rstrip("\r\n")], delimiter=delimiter), [])
    return any(cell.startswith(" ") for cell in cells[1:])


class _CountedLines:
    """Iterator over the lines of a stream as text, which counts bytes and lines.

    Invalid bytes become surrogates, so that only the record that holds them is rejected.
    """

    def __init__(self, stream: IO[bytes]):
        self._stream = stream
        self._quoted = False
        self.delimiter = ""
        self.offset = 0
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._stream.readline()
        if not line:
            raise StopIteration
        first = self.offset == 0
        self.offset += len(line)
        self.number += 1
        text = line.decode("utf-8", "surrogateescape")
        text = text.removeprefix("\ufeff") if first else text
        return self._without_padding(text) if self.delimiter and '"' in text else text

    def begin_record(self) -> None:
        """Note that the next line begins a record."""
        self._quoted = False

    def _without_padding(self, text: str) -> str:
        """Return a line without the spaces before its quoted fields, which are no content."""
        padded = re.search(rf'(?:^|{re.escape(self.delimiter)}) +"', text)
        if not padded and text.count('"') % 2 == 0:
            return text
        kept = []
        at = 0
        begins = not self._quoted
        while at < len(text):
            if begins:
                quote = at
                while text.startswith(" ", quote):
                    quote += 1
                if text[quote : quote + 1] == '"':
                    self._quoted = True
                    kept.append('"')
                    at, begins = quote + 1, False
                    continue
            if self._quoted and text.startswith('""', at):
                kept.append('""')
                at += 2
                continue
            if self._quoted and text[at] == '"':
                self._quoted = False
            begins = not self._quoted and text[at] == self.delimiter
            kept.append(text[at])
            at += 1
        return "".join(kept)


def _csv_rows(
    lines: _CountedLines, header: list[str], padded: bool, label: str
) -> Iterator[SourceRecord | BadRecord]:
    def open_reader() -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=lines.delimiter, skipinitialspace=padded, strict=True)

    reader = open_reader()
    while True:
        lines.begin_record()
        here = SourcePosition(lines.offset, lines.number)
        origin = f"{label}:{here.number + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRecord(
                origin, f"not CSV: {error}. Close the quotes, and double inner ones", here
            )
            reader = open_reader()
            continue
        if not cells:
            continue
        yield _csv_record(cells, header, origin, here)


def _csv_record(
    cells: list[str], header: list[str], origin: str, position: SourcePosition
) -> SourceRecord | BadRecord:
    if len(cells) != len(header):
        reason = (
            f"{len(cells)} fields where the header has {len(header)} ({', '.join(header)}): "
            f"{abbreviate(' | '.join(cells))}. Put quotes around text with a comma or a line break"
        )
        return BadRecord(origin, reason, position)
    if any(_SURROGATE.search(cell) for cell in cells):
        return BadRecord(origin, "not UTF-8. Save the file as UTF-8", position)
    return SourceRecord(origin, dict(zip(header, cells, strict=True)), position)


def _delimiter(head: str, path: Path) -> str:
    if "tsv" in path.name.lower().rsplit(".", 2)[-2:]:
        return "\t"
    unquoted = _QUOTED.sub("", head)
    return next((mark for mark in (",", "\t", ";", "|") if mark in unquoted), ",")


def _cells(line: str, delimiter: str) -> list[str]:
    row = next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter, skipinitialspace=True), [])
    return [cell.strip() for cell in row]
