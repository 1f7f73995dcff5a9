"""Text of Word files, as Markdown."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

from preparation.extract.archive import BoundedArchive
from preparation.extract.document import (
    DEFAULT_LIMITS,
    ExtractedDocument,
    ExtractionError,
    ExtractionLimits,
)

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_CONTAINERS = frozenset(f"{_W}{name}" for name in ("sdt", "sdtContent", "ins", "customXml"))
"""Elements around paragraphs: content controls and insertions under review."""
_LEFT_OUT = frozenset((f"{_W}del", f"{_W}moveFrom", f"{_W}pPr", f"{_W}rPr", _FALLBACK))
_SPACES = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}
_HEADING = re.compile(r"heading ([1-9])$", re.IGNORECASE)


def docx_document(
    data: bytes, label: str, limits: ExtractionLimits = DEFAULT_LIMITS
) -> ExtractedDocument:
    """Return the text of a Word file: headings, paragraphs, lists, and tables as Markdown.

    Insertions under review are read, deletions are not.

    Args:
        data: The file.
        label: Label of the file.
        limits: Limits of its archive.

    Raises:
        ExtractionError: It is damaged, too large, or has no text.
    """
    import docx

    BoundedArchive(data, limits).check()
    try:
        document = docx.Document(io.BytesIO(data))
        blocks = list(_blocks(document.element.body, _style_names(document)))
        properties = document.core_properties
        title, author, language = properties.title, properties.author, properties.language
    except Exception as error:  # python-docx raises errors of several libraries
        raise ExtractionError(
            "damaged",
            f"The Word file is damaged and cannot be read ({type(error).__name__}). Open it in "
            "Word and save it again",
        ) from None
    text = "\n\n".join(blocks).strip()
    if not text:
        raise ExtractionError("no_text", "The document has no text")
    metadata: dict[str, Any] = {}
    if author:
        metadata["authors"] = [author]
    if language:
        metadata["language"] = language
    return ExtractedDocument(label, "docx", text, title or "", metadata)


def _blocks(parent: Any, styles: dict[str, str]) -> Iterator[str]:
    previous_item = ""
    for block in _block_elements(parent):
        text = _table(block) if block.tag == f"{_W}tbl" else _paragraph(block, styles)
        if text.startswith("- ") and previous_item:
            previous_item += "\n" + text
            continue
        if previous_item:
            yield previous_item
        previous_item = text if text.startswith("- ") else ""
        if text and not previous_item:
            yield text
    if previous_item:
        yield previous_item


def _block_elements(parent: Any) -> Iterator[Any]:
    """Yield the paragraphs and tables of the body, also those inside content controls."""
    for child in parent:
        if child.tag in (f"{_W}p", f"{_W}tbl"):
            yield child
        elif child.tag in _CONTAINERS:
            yield from _block_elements(child)


def _paragraph(element: Any, styles: dict[str, str]) -> str:
    text = _text(element).strip()
    if not text:
        return ""
    reference = element.find(f"{_W}pPr/{_W}pStyle")
    style = styles.get(reference.get(f"{_W}val"), "") if reference is not None else ""
    heading = _HEADING.search(style)
    if heading:
        return f"{'#' * min(6, int(heading[1]))} {' '.join(text.split())}"
    if style.lower() == "title":
        return f"# {' '.join(text.split())}"
    listed = style.lower().startswith("list") or element.find(f"{_W}pPr/{_W}numPr") is not None
    return f"- {text}" if listed else text


def _style_names(document: Any) -> dict[str, str]:
    """Return the names of the styles, which are the same in each language, by their ids."""
    names = {}
    for style in document.styles.element.findall(f"{_W}style"):
        name = style.find(f"{_W}name")
        if name is not None:
            names[style.get(f"{_W}styleId")] = name.get(f"{_W}val") or ""
    return names


def _text(element: Any) -> str:
    """Return the text of an element; a paragraph inside it, as of a text box, begins a line."""
    parts = []
    for child in element:
        if child.tag in _LEFT_OUT:
            continue
        if child.tag == f"{_W}t":
            parts.append(child.text or "")
        elif child.tag in _SPACES:
            parts.append(_SPACES[child.tag])
        elif child.tag == f"{_W}p":
            parts.append("\n" + _text(child))
        else:
            parts.append(_text(child))
    return "".join(parts)


def _table(element: Any) -> str:
    """Return a table as Markdown; a table inside a cell becomes the text of the cell."""
    rows = []
    for row in element.iter(f"{_W}tr"):
        if next(row.iterancestors(f"{_W}tbl")) is not element:
            continue
        cells = [
            " ".join(_cell_text(cell).split()).replace("|", "\\|")
            for cell in row.iter(f"{_W}tc")
            if next(cell.iterancestors(f"{_W}tr")) is row
        ]
        rows.append(cells)
    width = max(map(len, rows), default=0)
    lines = [f"| {' | '.join(row + [''] * (width - len(row)))} |" for row in rows]
    return "\n".join([*lines[:1], "|" + " --- |" * width, *lines[1:]]) if lines else ""


def _cell_text(cell: Any) -> str:
    return " ".join(_text(paragraph) for paragraph in cell.iter(f"{_W}p"))
