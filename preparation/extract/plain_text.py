"""Plain text files."""

from __future__ import annotations

from preparation.extract.decoding import decode_text
from preparation.extract.document import ExtractedDocument


def text_document(data: bytes, label: str) -> ExtractedDocument:
    """Return the text of a file without its byte order mark.

    Raises:
        ExtractionError: It is not UTF-8.
    """
    return ExtractedDocument(label, "text", decode_text(data).strip("\r\n"))
