"""Reader of plain text, which groups paragraphs into documents.

A text file does not mark its documents. Paragraphs (separated by blank lines) are kept intact and
grouped until a document has about `DOCUMENT` characters, so that a single large file has documents
to hold out, shuffle and pack.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from training.data.readers.records import (
    START,
    BadRecord,
    SourcePosition,
    SourceRecord,
    abbreviate,
)

DOCUMENT = 2_000
"""Characters of a document."""
_LONGEST_PARAGRAPH = 4 * DOCUMENT
"""Characters beyond which a paragraph is cut at a line end."""


def read_text(
    stream: IO[bytes], label: str, start: SourcePosition = START
) -> Iterator[SourceRecord | BadRecord]:
    """Yield the documents of a text file as `{"text": …}`, starting at a position.

    Args:
        stream: The file, decompressed.
        label: Prefix of the origins.
        start: Position of the first document.
    """
    stream.seek(start.offset)
    begin, offset, number = start, start.offset, start.number
    lines: list[bytes] = []
    size = paragraph = 0
    for line in stream:
        blank = not line.strip()
        full = size >= DOCUMENT if blank else paragraph >= _LONGEST_PARAGRAPH
        if full and lines:
            yield _document(lines, label, begin)
            lines, size, paragraph = [], 0, 0
        if not lines and not blank:
            begin = SourcePosition(offset, number)
        if lines or not blank:
            lines.append(line)
        size += len(line)
        paragraph = 0 if blank else paragraph + len(line)
        offset += len(line)
        number += 1
    if lines:
        yield _document(lines, label, begin)


def _document(lines: list[bytes], label: str, begin: SourcePosition) -> SourceRecord | BadRecord:
    origin = f"{label}:{begin.number + 1}"
    try:
        text = b"".join(lines).decode("utf-8")
    except UnicodeDecodeError:
        number, broken = next(
            (number, line) for number, line in enumerate(lines, begin.number + 1) if _broken(line)
        )
        reason = f"not UTF-8 on line {number} ({abbreviate(broken[:40])}). Save the file as UTF-8"
        return BadRecord(origin, reason, begin)
    return SourceRecord(origin, {"text": text.removeprefix("\ufeff").strip("\r\n")}, begin)


def _broken(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False
