"""Section of one source of a preparation."""

from __future__ import annotations

import re

from training.config.data import Source

S3 = "s3://"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class PreparedSource(Source):
    """Source of a preparation."""

    group_by: str | None = None
    """Column whose value keeps related rows together, such as a user, a thread or a document."""
    license: str | None = None
    """Licence or terms of use of the source; written into the card of the data set."""
    origin: str | None = None
    """Origin of the source, such as an address; written into the card."""
    documents: bool = False
    """Read each Markdown and text file as one document, and not its paragraphs as rows. HTML, PDF,
    DOCX and EPUB files are always documents."""
    tags: tuple[str, ...] = ()
    """Columns whose values become tags of the rows, where a row has them."""


def is_address(value: str) -> bool:
    """Return whether a text is an address in S3 with the name of a bucket."""
    return value.startswith(S3) and bool(_BUCKET.fullmatch(value[len(S3) :].partition("/")[0]))
