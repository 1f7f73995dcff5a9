"""Decoding of text files: byte order marks, UTF-8, and the encoding that a page declares."""

from __future__ import annotations

import codecs
import re

from preparation.extract.document import ExtractionError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks; those of UTF-32 before those of UTF-16, which they begin with."""
_CHARSET = re.compile(
    rb"<meta[^>]{0,500}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{1,40})"
    rb"|<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9_:.-]{1,40})",
    re.IGNORECASE,
)
_DECLARATION_BYTES = 4096
_LATIN_1 = ("iso8859-1", "ascii", "latin-1")
"""Encodings that the HTML standard reads as Windows-1252 (https://encoding.spec.whatwg.org)."""


def decode_text(data: bytes) -> str:
    """Decode a text file with a byte order mark or in UTF-8.

    Raises:
        ExtractionError: It is neither.
    """
    marked = _decode_marked(data)
    if marked is not None:
        return marked
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ExtractionError(
            "encoding",
            f"The file is not UTF-8 (byte {data[error.start]:#04x} at offset {error.start:,}). "
            "Save it as UTF-8",
        ) from None


def decode_html(data: bytes) -> tuple[str, str]:
    """Decode a page, and return its text and the name of its encoding.

    A byte order mark decides first, then valid UTF-8 with characters outside ASCII, then the
    declaration in the page. Without one it is read as Windows-1252, as browsers do.

    Raises:
        ExtractionError: The page has a byte order mark and invalid bytes.
    """
    marked = _decode_marked(data)
    if marked is not None:
        return marked, "utf-8"
    declared = _declared_encoding(data)
    for name in ("utf-8", declared, "cp1252"):
        try:
            if name:
                return data.decode(name), name
        except (UnicodeDecodeError, LookupError):
            continue
    return data.decode(declared or "cp1252", "replace"), declared or "cp1252"


def _decode_marked(data: bytes) -> str | None:
    for mark, name in _MARKS:
        if data.startswith(mark):
            try:
                return data[len(mark) :].decode(name)
            except UnicodeDecodeError as error:
                raise ExtractionError(
                    "encoding",
                    f"The file begins with the byte order mark of {name}, and is not {name} at "
                    f"offset {error.start:,}. Save it as UTF-8",
                ) from None
    return None


def _declared_encoding(data: bytes) -> str:
    match = _CHARSET.search(data[:_DECLARATION_BYTES])
    if not match:
        return ""
    try:
        name = codecs.lookup((match[1] or match[2]).decode("ascii")).name
    except LookupError:
        return ""
    return "cp1252" if name in _LATIN_1 else name
