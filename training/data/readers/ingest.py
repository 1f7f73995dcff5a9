"""Ingestion of one source: its rows are read, tokenized and cached, with statistics."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from training.config.data import Source
from training.data.readers.records import BadRecord
from training.data.readers.sources import ResolvedSource
from training.data.schema.rows import Row, RowError
from training.data.schema.schema_reader import SchemaReader
from training.data.storage.cache import Cache, cache_key, write_jsonl
from training.data.storage.table import TOKEN_SCHEMA, RowWriter, TokenStore
from training.data.tokenization.outcome_counts import OutcomeCounts
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.data.tokenization.token_rows import Dropped, Outcome, SplitRow
from training.data.tokenization.workers import tokenize_rows
from training.errors import DataError

_TOKENS, _STATS = "rows.arrow", "stats.json"
_CHECK_FIRST_BYTES = 2_000_000
"""Size beyond which a source is read once completely before it is tokenized."""
DROPPED, SKIPPED = "dropped.jsonl", "skipped.jsonl"


@dataclass(frozen=True)
class IngestStats:
    """Statistics of the rows of a source.

    Attributes:
        shapes: Detected shapes of its rows.
        counts: What became of its rows.
        required_length: Smallest `max_length` that would keep a dropped row; 0 if none would.
        unused: Number of rows by column, or key of messages, that hold something and were not read.
        reasons: Number of dropped rows by reason.
    """

    shapes: tuple[str, ...]
    counts: OutcomeCounts
    required_length: int
    unused: dict[str, int]
    reasons: dict[str, int]

    @property
    def rows_read(self) -> int:
        """Rows read."""
        return self.counts.rows_read

    @property
    def rows_skipped(self) -> int:
        """Rows that could not be read."""
        return self.counts.rows_skipped


@dataclass(frozen=True)
class Ingested:
    """Tokenized source.

    Attributes:
        source: Source as the job names it.
        folder: Cache folder of its files.
        stats: Statistics of its rows.
        store: Its tokenized rows.
    """

    source: Source
    folder: Path
    stats: IngestStats
    store: TokenStore


def open_ingested(source: Source, folder: Path) -> Ingested:
    """Return the tokenized source that `ingest` wrote to `folder`."""
    stats = json.loads((folder / _STATS).read_text())
    stats |= {"shapes": tuple(stats["shapes"]), "counts": OutcomeCounts(**stats["counts"])}
    return Ingested(source, folder, IngestStats(**stats), TokenStore(folder / _TOKENS))


def read_rows(
    located: ResolvedSource,
    reader: SchemaReader,
    on_error: Literal["stop", "skip"],
    limit: int | None,
) -> Iterator[Row | BadRecord]:
    """Yield the rows of a source, including `BadRecord`s if unreadable rows are skipped.

    Args:
        located: The source.
        reader: Reader of its records.
        on_error: Whether an unreadable row stops the run or is skipped.
        limit: Maximum number of rows.

    Raises:
        DataError: A row cannot be read and `on_error` is `stop`, or the source holds none.
    """
    any_rows = False
    records = located.records()
    for _, record in islice(records, limit) if limit else records:
        any_rows = True
        row: Row | BadRecord
        if isinstance(record, BadRecord):
            row = record
        else:
            try:
                row = reader.read(record)
            except RowError as fault:
                row = BadRecord(record.origin, str(fault))
        if isinstance(row, BadRecord):
            raise_unless_skipped(row, on_error)
        yield row
    if not any_rows:
        raise DataError(f"{located.source.source}: there are no rows in it")


def raise_unless_skipped(bad: BadRecord, on_error: Literal["stop", "skip"]) -> None:
    """Raise for a row that cannot be read, unless such rows are skipped.

    Raises:
        DataError: `on_error` is `stop`.
    """
    if on_error == "stop":
        raise DataError(
            f"{bad.origin}: {bad.reason}. To skip such rows, set data.on_error: skip "
            "(they are counted and listed)"
        )


def ingest(
    located: ResolvedSource,
    tokenizer: RowTokenizer,
    folder: Path,
    *,
    on_error: Literal["stop", "skip"],
    limit: int | None,
    workers: int,
) -> None:
    """Tokenize a source into `folder`.

    Args:
        located: The source.
        tokenizer: Row tokenizer.
        folder: Empty folder for the tokens and the lists of dropped and skipped rows.
        on_error: Whether an unreadable row stops the run or is skipped.
        limit: Maximum number of rows.
        workers: Processes that tokenize a large source.

    Raises:
        DataError: A row cannot be read and `on_error` is `stop`, or the source holds none.
    """
    reader = SchemaReader(located.source, tokenizer.want)
    if on_error == "stop" and located.size_bytes > _CHECK_FIRST_BYTES:
        # Reading alone is fast: a bad row at the end fails now, not after an hour of tokenizing.
        for _ in read_rows(located, SchemaReader(located.source, tokenizer.want), on_error, limit):
            pass
    ingest_writer = IngestWriter()
    rows = read_rows(located, reader, on_error, limit)
    with RowWriter(folder / _TOKENS, TOKEN_SCHEMA) as writer:
        for outcome in tokenize_rows(rows, tokenizer, workers):
            if isinstance(outcome, BadRecord):
                raise_unless_skipped(outcome, on_error)
            ingest_writer.add(outcome, writer)
    ingest_writer.write(folder, reader)


class IngestWriter:
    """Writer of tokenized rows that keeps statistics and the lists of dropped and skipped rows."""

    def __init__(self) -> None:
        self._counts = OutcomeCounts()
        self._dropped: list[Dropped] = []
        self._skipped: list[BadRecord] = []

    def add(self, outcome: Outcome, writer: RowWriter) -> None:
        """Count the outcome of one source row, and write its token rows."""
        document = self._counts.rows_read
        self._counts.add(outcome)
        if isinstance(outcome, Dropped):
            self._dropped.append(outcome)
        elif isinstance(outcome, BadRecord):
            self._skipped.append(outcome)
        else:
            rows = outcome.rows if isinstance(outcome, SplitRow) else outcome
            self._dropped += outcome.dropped if isinstance(outcome, SplitRow) else []
            for row in rows:
                writer.add(
                    row.id, document, row.input_ids, row.labels, row.split, row.about, row.prompt
                )

    def write(self, folder: Path, reader: SchemaReader) -> None:
        """Write the lists of dropped and skipped rows, and the statistics."""
        write_jsonl(folder / DROPPED, ({"id": d.id, "reason": d.reason} for d in self._dropped))
        write_jsonl(folder / SKIPPED, ({"id": s.origin, "reason": s.reason} for s in self._skipped))
        stats = IngestStats(
            shapes=reader.shapes,
            counts=self._counts,
            required_length=min(
                (d.required_length for d in self._dropped if d.required_length), default=0
            ),
            unused=dict(sorted(reader.unused_rows.items())),
            reasons=dict(Counter(d.reason.split(":")[0] for d in self._dropped)),
        )
        (folder / _STATS).write_text(json.dumps(asdict(stats)))


def tokenize_source(
    located: ResolvedSource,
    rows: RowTokenizer,
    tokenizer: str,
    cache: Cache,
    *,
    limit: int | None = None,
    workers: int = 1,
    on_error: Literal["stop", "skip"] = "stop",
) -> Ingested:
    """Return a tokenized source from the cache, after tokenizing it if necessary.

    Args:
        located: The source.
        rows: Row tokenizer.
        tokenizer: Fingerprint of the tokenizer.
        cache: Cache of the result.
        limit: Maximum number of rows.
        workers: Processes that tokenize a large source.
        on_error: Whether an unreadable row stops the run or is skipped.

    Raises:
        DataError: A row cannot be read and `on_error` is `stop`, or the source holds none.
    """
    source = located.source
    key = cache_key(
        located.digest(), source.shape, sorted(source.columns.items()),
        sorted(source.dimensions.items()), limit, on_error,
        tokenizer, rows.template.sources if rows.template else "",
        rows.want, rows.loss_on, rows.max_length, rows.weighs_pairs, rows.overlap,
        rows.splits_conversations,
    )  # fmt: skip
    folder = cache.entry(
        key,
        lambda part: ingest(located, rows, part, on_error=on_error, limit=limit, workers=workers),
    )
    return open_ingested(source, folder)
