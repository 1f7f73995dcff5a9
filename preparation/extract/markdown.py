"""Markdown files: the text as it is, and the values of its front matter."""

from __future__ import annotations

import re
from typing import Any

from preparation.extract.decoding import decode_text
from preparation.extract.document import ExtractedDocument

_FRONT_MATTER = re.compile(
    r"\A---[ \t]*\r?\n(.{0,65536}?)\r?\n(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.S
)
_TITLE = re.compile(r"^#[ \t]+(.+?)[ \t]*#*[ \t]*$", re.MULTILINE)
_ALIAS = re.compile(r"(?:^|[\s\[{,])[&*]\w")


def markdown_document(data: bytes, label: str) -> ExtractedDocument:
    """Return the text of a Markdown file without its front matter, which becomes metadata.

    Front matter that is not a mapping of YAML stays part of the text.

    Raises:
        ExtractionError: It is not UTF-8.
    """
    text = decode_text(data)
    match = _FRONT_MATTER.match(text)
    values = _front_matter(match[1]) if match else None
    if match and values is not None:
        text = text[match.end() :]
    metadata = dict(values or {})
    heading = _TITLE.search(text)
    title = str(metadata.pop("title", "") or (heading[1] if heading else ""))
    return ExtractedDocument(label, "markdown", text.strip("\r\n"), title, metadata)


def _front_matter(text: str) -> dict[str, Any] | None:
    """Return the simple values of front matter, or None if it is none."""
    import yaml

    if _ALIAS.search(text):  # aliases may grow without bound
        return None
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    simple = {str(key): _simple(value) for key, value in values.items()}
    return {key: value for key, value in simple.items() if value is not None}


def _simple(value: Any) -> Any:
    """Return a value as a string, a number or a list of them; None if it is nested deeper."""
    if isinstance(value, list):
        return [_simple(item) for item in value if not isinstance(item, list | dict)]
    if isinstance(value, bool | int | float | str):
        return value
    return None if value is None or isinstance(value, dict) else str(value)
