"""Text of PDF files."""

from __future__ import annotations

import io
import logging
import re
from typing import Any

from preparation.extract.document import (
    DEFAULT_LIMITS,
    ExtractedDocument,
    ExtractionError,
    ExtractionLimits,
    FailureReason,
)

_HYPHENATED = re.compile(r"(\w+)-[ \t]*\n[ \t]*(\w+)")
_OCR = "Recognize its text first, for example with `ocrmypdf IN.pdf OUT.pdf`"


def pdf_document(
    data: bytes, label: str, limits: ExtractionLimits = DEFAULT_LIMITS
) -> ExtractedDocument:
    """Return the text of a PDF file, with an empty line between pages.

    Args:
        data: The file.
        label: Label of the file.
        limits: Limits of its pages.

    Raises:
        ExtractionError: It is encrypted, damaged, too large, or has no text.
    """
    import pypdf

    # pypdf reports each repair of a damaged file to this logger.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = pypdf.PdfReader(io.BytesIO(data), strict=False)
        if reader.is_encrypted and not reader.decrypt(""):
            raise ExtractionError(
                "encrypted",
                "The PDF has a password. Save it without one, for example with "
                "`qpdf --decrypt --password=… IN.pdf OUT.pdf`",
            )
        pages = _page_texts(reader, limits)
        metadata, title = _metadata(reader)
    except ExtractionError:
        raise
    except Exception as error:  # a damaged file raises errors of any type inside pypdf
        raise ExtractionError(
            "damaged",
            f"The PDF is damaged and cannot be read ({type(error).__name__}). Repair it, for "
            "example with `qpdf IN.pdf OUT.pdf`, or copy it again",
        ) from None
    blank = [number for number, text in enumerate(pages, 1) if not text]
    text = join_hyphenated("\n\n".join(filter(None, pages)))
    if not text:
        raise ExtractionError(*_why_no_text(reader))
    if blank:
        metadata["pages_without_text"] = blank
    return ExtractedDocument(label, "pdf", text, title, {"pages": len(pages), **metadata})


def _page_texts(reader: Any, limits: ExtractionLimits) -> list[str]:
    """Return the text of each page.

    Raises:
        ExtractionError: The file exceeds a limit.
    """
    if len(reader.pages) > limits.pdf_pages:
        raise ExtractionError(
            "too_large",
            f"The PDF has {len(reader.pages):,} pages, over the limit of {limits.pdf_pages:,}. "
            "Split it",
        )
    texts = []
    for number, page in enumerate(reader.pages, 1):
        contents = page.get_contents()
        size = len(contents.get_data()) if contents is not None else 0
        if size > limits.pdf_page_bytes:
            raise ExtractionError(
                "too_large",
                f"Page {number} of the PDF has {size:,} bytes of drawing instructions, over the "
                f"limit of {limits.pdf_page_bytes:,}. Remove the page",
            )
        lines = (line.rstrip() for line in page.extract_text().splitlines())
        texts.append("\n".join(lines).strip().replace("\0", ""))
    return texts


def join_hyphenated(text: str) -> str:
    """Return text with the words joined that a hyphen divides at the end of a line.

    The rest of the text decides: a word that appears there with a hyphen keeps it, other words are
    joined if their second part begins with a lower-case letter.
    """
    inline = {word.lower() for word in re.findall(r"\w+-\w+", text)}

    def joined(match: re.Match[str]) -> str:
        first, second = match[1], match[2]
        if f"{first}-{second}".lower() in inline or not first[-1].isalpha():
            return f"{first}-{second}"
        return first + second if second[0].islower() else f"{first}-{second}"

    return _HYPHENATED.sub(joined, text)


def _metadata(reader: Any) -> tuple[dict[str, Any], str]:
    metadata: dict[str, Any] = {}
    stated = reader.metadata
    if stated is not None and stated.author:
        metadata["authors"] = [str(stated.author)]
    language = reader.trailer["/Root"].get("/Lang")
    if isinstance(language, str) and language:
        metadata["language"] = str(language)
    return metadata, str(stated.title).strip() if stated is not None and stated.title else ""


def _why_no_text(reader: Any) -> tuple[FailureReason, str]:
    """Return the reason of a file without text, which depends on what is on its pages."""
    try:
        scanned = any(_has_image(page) for page in reader.pages)
    except Exception:  # damaged resources; the text has been read by now
        scanned = False
    if scanned:
        return ("needs_ocr", f"The PDF consists of images and needs OCR: it has no text. {_OCR}")
    return (
        "no_text",
        f"The PDF has no text. If its pages show some, it is drawn as outlines. {_OCR}",
    )


def _has_image(page: Any) -> bool:
    resources = page.get("/Resources")
    objects = resources.get_object().get("/XObject") if resources is not None else None
    if objects is None:
        return False
    members = objects.get_object().values()
    return any(member.get_object().get("/Subtype") in ("/Image", "/Form") for member in members)
