"""Extraction of a raw file: its format by its content, its text by the module of the format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from preparation.extract.detection import detect_format
from preparation.extract.document import (
    DEFAULT_LIMITS,
    ExtractedDocument,
    ExtractionError,
    ExtractionFailure,
    ExtractionLimits,
)
from preparation.extract.docx_files import docx_document
from preparation.extract.epub import epub_document
from preparation.extract.html_pages import html_document
from preparation.extract.markdown import markdown_document
from preparation.extract.pdf import pdf_document
from preparation.extract.plain_text import text_document


def extract(
    path: Path, label: str = "", limits: ExtractionLimits = DEFAULT_LIMITS
) -> Iterator[ExtractedDocument | ExtractionFailure]:
    """Yield the documents of a raw file, or the reason why it has none.

    Args:
        path: The file.
        label: Id of the document; the file's name by default.
        limits: Limits of sizes and nesting.
    """
    label = label or path.name
    try:
        document = extract_bytes(_read(path, limits), path.name, label, limits)
    except ExtractionError as error:
        yield ExtractionFailure(label, error.reason, f"{label}: {error.message}")
    else:
        yield document


def extract_bytes(
    data: bytes, name: str, label: str, limits: ExtractionLimits = DEFAULT_LIMITS
) -> ExtractedDocument:
    """Return the text of a document in memory.

    Args:
        data: Its content.
        name: Name of its file; the suffix decides between kinds of text.
        label: Id of the document.
        limits: Limits of sizes and nesting.

    Raises:
        ExtractionError: It has no text that can be used.
    """
    match detect_format(data, name):
        case "html":
            document = html_document(data, label, limits)
        case "pdf":
            document = pdf_document(data, label, limits)
        case "docx":
            document = docx_document(data, label, limits)
        case "epub":
            document = epub_document(data, label, limits)
        case "markdown":
            document = markdown_document(data, label)
        case "text":
            document = text_document(data, label)
    if not document.text.strip():
        raise ExtractionError("empty", "The file has no text")
    return document


def _read(path: Path, limits: ExtractionLimits) -> bytes:
    """Return the content of a file.

    Raises:
        ExtractionError: It is too large, or cannot be read.
    """
    try:
        size = path.stat().st_size
        if size > limits.file_bytes:
            raise ExtractionError(
                "too_large",
                f"The file has {size:,} bytes, over the limit of {limits.file_bytes:,}. Split it",
            )
        return path.read_bytes()
    except OSError as error:
        raise ExtractionError(
            "damaged", f"The file cannot be read: {error.strerror or error}"
        ) from None
