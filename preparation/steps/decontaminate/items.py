"""Benchmark items, read from files of every shape that training reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from preparation.rows import PreparedRow
from training.data.readers.formats import read_file
from training.data.readers.records import BadRecord
from training.errors import DataError

_QUESTIONS = ("prompt", "user", "text")
_ANSWERS = ("answer", "assistant")


class BenchmarkItem(NamedTuple):
    """Item of a benchmark.

    Attributes:
        id: File and line: `gsm8k_test.jsonl:17`.
        question: Its question, or its text.
        answer: Its answers; empty if it has none.
    """

    id: str
    question: str
    answer: str


def read_items(files: Sequence[str]) -> Iterator[BenchmarkItem]:
    """Yield the items of benchmark files.

    Raises:
        DataError: A record cannot be read, or fits no shape.
    """
    from preparation.config.source import PreparedSource
    from preparation.row_conversion import RowConverter
    from training.data.schema.rows import RowError

    for file in files:
        path = Path(file)
        converter = RowConverter(PreparedSource(source=file), path.name)
        for record in read_file(path, path.name):
            if isinstance(record, BadRecord):
                raise DataError(f"{record.origin}: {record.reason}")
            try:
                yield item_of(converter.convert(record))
            except RowError as error:
                raise DataError(f"{record.origin}: {error}") from None


def item_of(row: PreparedRow) -> BenchmarkItem:
    """Return a row as an item, such as one that is held out."""
    parts = row.content()
    question = "\n".join(part.text for part in parts if part.role in _QUESTIONS)
    answer = "\n".join(part.text for part in parts if part.role in _ANSWERS)
    return BenchmarkItem(row.id, question, answer)
