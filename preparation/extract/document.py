"""Results of an extraction, and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

FormatName: TypeAlias = Literal["html", "pdf", "docx", "epub", "markdown", "text"]
FailureReason: TypeAlias = Literal[
    "empty",
    "no_text",
    "needs_ocr",
    "encrypted",
    "too_large",
    "too_deep",
    "encoding",
    "unsupported",
    "damaged",
]


@dataclass(frozen=True, slots=True)
class ExtractedDocument:
    """Text of a document.

    Attributes:
        id: Label of the file.
        format: Format that was found in its content.
        text: The text; headings, lists, tables and code blocks as Markdown where the format has
            them.
        title: Title that the document states; empty if it states none.
        metadata: What else it states, such as `language`, `authors` and `links`. Values are
            strings, numbers, and lists of strings or numbers.
    """

    id: str
    format: FormatName
    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExtractionFailure:
    """File without text that can be used.

    Attributes:
        id: Label of the file.
        reason: Reason as a fixed word, so that failures can be counted.
        message: Sentence that says what is wrong and what to do.
    """

    id: str
    reason: FailureReason
    message: str


class ExtractionError(Exception):
    """Error in a file that ends its extraction.

    Args:
        reason: Reason as a fixed word.
        message: Sentence that says what is wrong and what to do.
    """

    def __init__(self, reason: FailureReason, message: str):
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class ExtractionLimits:
    """Limits that keep time and memory of a file bounded.

    Attributes:
        file_bytes: Size of a file.
        archive_bytes: Size of all members of a DOCX or EPUB file after decompression.
        archive_members: Number of its members.
        compression_ratio: Ratio of decompressed to compressed size of a member of more than a
            megabyte. Deflate reaches 1,032 at most (https://zlib.net/zlib_tech.html); text is
            below 20.
        html_depth: Nesting of elements. Blink closes elements below a depth of 512
            (`kMaximumHTMLParserDOMTreeDepth`), and the time of an extraction grows with the depth.
        html_work: Sum of the depths of all elements of a page.
        pdf_pages: Number of pages.
        pdf_page_bytes: Size of the drawing instructions of a page.
    """

    file_bytes: int = 256 * 1024**2
    archive_bytes: int = 512 * 1024**2
    archive_members: int = 20_000
    compression_ratio: int = 200
    html_depth: int = 512
    html_work: int = 20_000_000
    pdf_pages: int = 20_000
    pdf_page_bytes: int = 10 * 1024**2


DEFAULT_LIMITS = ExtractionLimits()
