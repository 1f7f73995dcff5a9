"""Text of EPUB books: their chapters in reading order."""

from __future__ import annotations

import posixpath
from typing import Any
from urllib.parse import unquote

from preparation.extract.archive import BoundedArchive
from preparation.extract.decoding import decode_html
from preparation.extract.document import (
    DEFAULT_LIMITS,
    ExtractedDocument,
    ExtractionError,
    ExtractionLimits,
)
from preparation.extract.html_pages import html_text

_PAGE_TYPES = ("application/xhtml+xml", "text/html")
_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"


def epub_document(
    data: bytes, label: str, limits: ExtractionLimits = DEFAULT_LIMITS
) -> ExtractedDocument:
    """Return the text of a book, with its title, authors and language.

    Args:
        data: The file.
        label: Label of the file.
        limits: Limits of its archive and pages.

    Raises:
        ExtractionError: It is damaged, protected, too large, or has no text.
    """
    archive = BoundedArchive(data, limits)
    package_path = _package_path(archive)
    package = _xml(archive, package_path)
    paths = _reading_order(package, posixpath.dirname(package_path))
    protected = _encrypted_paths(archive) & set(paths)
    if protected:
        raise ExtractionError(
            "encrypted",
            f"{len(protected)} chapters of the book are encrypted (DRM). Give a copy without",
        )
    chapters = [text for path in paths if (text := _chapter(archive, path, limits))]
    if not chapters:
        raise ExtractionError("no_text", "The book has no text in its reading order")
    title = " ".join(_stated(package, "title")[:1])
    metadata: dict[str, Any] = {"chapters": len(chapters)}
    if authors := _stated(package, "creator"):
        metadata["authors"] = authors
    if languages := _stated(package, "language"):
        metadata["language"] = languages[0]
    return ExtractedDocument(label, "epub", "\n\n".join(chapters), title, metadata)


def _chapter(archive: BoundedArchive, path: str, limits: ExtractionLimits) -> str:
    """Return the text of a chapter; empty if it has none, such as a page with the cover.

    Raises:
        ExtractionError: It cannot be read.
    """
    try:
        page, _ = decode_html(archive.read(path))
        return html_text(page, main_content=False, limits=limits)[0]
    except ExtractionError as error:
        if error.reason == "no_text":
            return ""
        raise ExtractionError(error.reason, f"Chapter {path!r}: {error.message}") from None


def _package_path(archive: BoundedArchive) -> str:
    """Return the path of the package document.

    Raises:
        ExtractionError: The container names none.
    """
    for element in _xml(archive, _CONTAINER).iter("{*}rootfile"):
        if element.get("full-path"):
            return str(element.get("full-path"))
    raise ExtractionError("damaged", f"The book's {_CONTAINER} names no package. Save it again")


def _reading_order(package: Any, folder: str) -> list[str]:
    """Return the paths of the linear pages of the spine."""
    manifest = {
        item.get("id"): item
        for item in package.iter("{*}item")
        if item.get("media-type") in _PAGE_TYPES and item.get("href")
    }
    paths = []
    for reference in package.iter("{*}itemref"):
        item = manifest.get(reference.get("idref"))
        if item is not None and reference.get("linear") != "no":
            target = unquote(item.get("href")).partition("#")[0]
            paths.append(posixpath.normpath(posixpath.join(folder, target)))
    return list(dict.fromkeys(paths))


def _encrypted_paths(archive: BoundedArchive) -> set[str]:
    if _ENCRYPTION not in archive:
        return set()
    references = _xml(archive, _ENCRYPTION).iter("{*}CipherReference")
    return {unquote(reference.get("URI") or "") for reference in references}


def _stated(package: Any, name: str) -> list[str]:
    elements = package.iter(f"{{http://purl.org/dc/elements/1.1/}}{name}")
    return [text for element in elements if (text := " ".join("".join(element.itertext()).split()))]


def _xml(archive: BoundedArchive, name: str) -> Any:
    """Return a parsed XML member; entities and external references are not resolved.

    Raises:
        ExtractionError: It is not XML.
    """
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        return etree.fromstring(archive.read(name), parser)
    except etree.XMLSyntaxError:
        raise ExtractionError(
            "damaged", f"The part {name!r} of the book is not XML. Save the book again"
        ) from None
