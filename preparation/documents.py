"""Documents of a source: files whose text is extracted, one row each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from preparation.config.source import PreparedSource
from training.config.locations import existing_path
from training.data.readers.formats import kind_of
from training.data.readers.records import BadRecord, SourceRecord
from training.data.readers.sources import ResolvedSource, locate

_ALWAYS = (".html", ".htm", ".xhtml", ".pdf", ".docx", ".epub")
_IF_ASKED = (".md", ".markdown", ".txt")
"""Suffixes that are data files too: their paragraphs become rows, unless the source says that each
file is a document."""


@dataclass(frozen=True, slots=True)
class UnreadableDocument(BadRecord):
    """Document without text that can be used, with the reason as a fixed word."""

    code: str = "unreadable"


def is_document(path: Path, source: PreparedSource) -> bool:
    """Return whether a file of a source is a document whose text is extracted."""
    suffix = path.suffix.lower()
    return suffix in _ALWAYS or (source.documents and suffix in _IF_ASKED)


def locate_source(source: PreparedSource, copy: Path | None = None) -> ResolvedSource:
    """Locate a source with its data files and its documents.

    Args:
        source: The source.
        copy: Copy of a source in S3 on this machine.

    Raises:
        DataError: It does not exist, or it holds no data.
    """
    if copy is not None:
        source = source.model_copy(update={"source": str(copy)})
    path = existing_path(source.source)
    if path is None:
        return locate(source)
    if path.is_file():
        if is_document(path, source):
            return ResolvedSource(source, path.name, ((path, path.name),))
        return locate(source)
    documents = {
        file: file.relative_to(path).as_posix()
        for file in sorted(path.rglob("*"))
        if file.is_file() and is_document(file, source) and not _is_hidden(file.relative_to(path))
    }
    if not documents:
        return locate(source)
    if all(file in documents or kind_of(file) is None for file in path.rglob("*")):
        return ResolvedSource(source, path.resolve().name, tuple(documents.items()))
    data = locate(source)
    files = dict(data.files) | documents
    return ResolvedSource(source, data.label, tuple(sorted(files.items())), left_out=data.left_out)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def document_records(path: Path, label: str) -> Iterator[SourceRecord | BadRecord]:
    """Yield the text of a document as a record, with its title and metadata as columns.

    Args:
        path: The file.
        label: Id of the row.
    """
    from preparation.extract.document import ExtractionFailure
    from preparation.extract.extraction import extract

    for document in extract(path, label):
        if isinstance(document, ExtractionFailure):
            yield UnreadableDocument(document.id, document.message, code=document.reason)
            continue
        columns = {"text": document.text, "title": document.title, "format": document.format}
        yield SourceRecord(document.id, {**document.metadata, **columns})
