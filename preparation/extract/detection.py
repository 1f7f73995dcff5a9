"""Detection of a file's format by its content; the suffix decides between kinds of text only."""

from __future__ import annotations

import re
from pathlib import PurePath

from preparation.extract.document import ExtractionError, FailureReason, FormatName

_SIGNATURES: dict[bytes, str] = {
    b"{\\rtf": "an RTF document. Save it as .docx",
    b"\x1f\x8b": "compressed with gzip. Decompress it first",
    b"BZh": "compressed with bzip2. Decompress it first",
    b"\x28\xb5\x2f\xfd": "compressed with zstd. Decompress it first",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive. Extract its files first",
    b"Rar!": "a RAR archive. Extract its files first",
    b"\x89PNG": "an image. Recognize its text first, for example with ocrmypdf",
    b"\xff\xd8\xff": "an image. Recognize its text first, for example with ocrmypdf",
    b"GIF8": "an image. Recognize its text first, for example with ocrmypdf",
    b"II*\0": "an image. Recognize its text first, for example with ocrmypdf",
    b"MM\0*": "an image. Recognize its text first, for example with ocrmypdf",
    b"%!PS": "a PostScript file. Convert it to PDF, for example with ps2pdf",
    b"\x7fELF": "a program",
    b"MZ\x90": "a program",
    b"SQLite format 3": "a database. Export its table as CSV or JSON Lines",
    b"PAR1": "a Parquet table. Name it as a source of rows, not of documents",
}
"""First bytes of formats that hold no text or are not read, with what they are."""

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""First bytes of the old Office formats, and of encrypted new ones (MS-OFFCRYPTO)."""
_ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")
_TEXT_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_HTML_START = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*"
    rb"<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_HTML_SUFFIXES = (".html", ".htm", ".xhtml", ".xht")
_MARKDOWN_SUFFIXES = (".md", ".markdown", ".mdx", ".qmd", ".rmd")
_PDF_HEAD_BYTES = 1024
"""A reader accepts the header of a PDF anywhere in this many bytes (ISO 32000, annex H)."""


def detect_format(data: bytes, name: str) -> FormatName:
    """Return the format of a file.

    Args:
        data: Its content.
        name: Its name; the suffix decides between HTML fragments, Markdown and plain text.

    Raises:
        ExtractionError: It is empty, or its format is not read.
    """
    if not data.strip(b" \t\r\n\xef\xbb\xbf"):
        raise ExtractionError("empty", "The file is empty")
    if data.startswith(b"PK\x03\x04"):
        return _archive_format(data)
    if b"%PDF-" in data[:_PDF_HEAD_BYTES]:
        return "pdf"
    if data.startswith(_OLE):
        raise ExtractionError(*_office_failure(data))
    for signature, what in _SIGNATURES.items():
        if data.startswith(signature):
            raise ExtractionError("unsupported", f"The file is {what}")
    return _text_format(data, PurePath(name).suffix.lower())


def _text_format(data: bytes, suffix: str) -> FormatName:
    """Return the kind of a text file.

    Raises:
        ExtractionError: It is not text.
    """
    head = data[:4096]
    if not head.startswith(_TEXT_MARKS) and b"\0" in data:
        raise ExtractionError(
            "unsupported",
            "The file is not text (it has zero bytes) and of no known format. Give HTML, PDF, "
            "DOCX, EPUB, Markdown or text in UTF-8",
        )
    if suffix in _HTML_SUFFIXES or _HTML_START.match(head):
        return "html"
    return "markdown" if suffix in _MARKDOWN_SUFFIXES else "text"


def _archive_format(data: bytes) -> FormatName:
    """Return the format of a ZIP archive by the names of its members.

    Raises:
        ExtractionError: It is none that is read.
    """
    if b"mimetypeapplication/epub+zip" in data[:200] or b"META-INF/container.xml" in data:
        return "epub"
    if b"word/document" in data or (b"[Content_Types].xml" in data and b"word/" in data):
        return "docx"
    for mark, what in {
        b"xl/workbook": "an Excel workbook. Export its sheets as CSV",
        b"ppt/presentation": "a PowerPoint file. Export it as PDF",
        b"mimetypeapplication/vnd.oasis": "an OpenDocument file. Save it as .docx",
    }.items():
        if mark in data:
            raise ExtractionError("unsupported", f"The file is {what}")
    raise ExtractionError("unsupported", "The file is a ZIP archive. Extract its files first")


def _office_failure(data: bytes) -> tuple[FailureReason, str]:
    if _ENCRYPTED_STREAM in data:
        return ("encrypted", "The document has a password. Open it in Word and save it without one")
    return (
        "unsupported",
        "The file is in an old Office format (.doc, .xls, .ppt). Save it as .docx",
    )
