"""One source to tokenized rows on disk, with what was skipped and dropped on the way."""

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
from training.data.schema.detection import SchemaReader
from training.data.schema.rows import Row, RowError
from training.data.storage.cache import Cache, cache_key, write_jsonl
from training.data.storage.table import STORED, RowWriter, TokenStore
from training.data.tokenization.row_tokenizer import IGNORE, Dropped, Outcome, RowTokenizer
from training.data.tokenization.workers import tokenized
from training.errors import DataError

_TOKENS, _ABOUT = "rows.arrow", "about.json"
_WORTH_CHECKING_BYTES = 2_000_000
DROPPED, SKIPPED = "dropped.jsonl", "skipped.jsonl"


@dataclass(frozen=True)
class IngestStats:
    """What became of the rows of a source; see `report.SourceReport` for the names.

    Attributes:
        needed: The smallest `max_length` that would keep a dropped answer; 0 when none would.
        unused: Columns that were there and not read.
        reasons: How many rows were dropped for what.
    """

    shapes: tuple[str, ...]
    rows_read: int
    rows_skipped: int
    rows_dropped: int
    rows_kept: int
    rows_truncated: int
    tokens: int
    supervised: int
    needed: int
    unused: tuple[str, ...]
    reasons: dict[str, int]


@dataclass(frozen=True)
class Ingested:
    """A source, tokenized.

    Attributes:
        source: As the job names it.
        folder: Where its files are.
        about: What became of its rows.
        store: Its tokens.
    """

    source: Source
    folder: Path
    about: IngestStats
    store: TokenStore


def open_ingested(source: Source, folder: Path) -> Ingested:
    """Return what `ingest` wrote to `folder`."""
    about = json.loads((folder / _ABOUT).read_text())
    about |= {"shapes": tuple(about["shapes"]), "unused": tuple(about["unused"])}
    return Ingested(source, folder, IngestStats(**about), TokenStore(folder / _TOKENS))


def rows_of(
    located: ResolvedSource,
    reader: SchemaReader,
    on_error: Literal["stop", "skip"],
    limit: int | None,
) -> Iterator[Row | BadRecord]:
    """Yield the rows of a source; unreadable ones too, where they are skipped.

    Raises:
        DataError: A row cannot be read and `on_error` is `stop`, or the source holds none.
    """
    found = False
    records = located.records()
    for _, record in islice(records, limit) if limit else records:
        found = True
        row: Row | BadRecord
        if isinstance(record, BadRecord):
            row = record
        else:
            try:
                row = reader.read(record)
            except RowError as fault:
                row = BadRecord(record.origin, str(fault))
        if isinstance(row, BadRecord):
            stop_at(row, on_error)
        yield row
    if not found:
        raise DataError(f"{located.source.source}: there are no rows in it")


def stop_at(bad: BadRecord, on_error: Literal["stop", "skip"]) -> None:
    """Raise for a row that cannot be read, unless such rows are skipped.

    Raises:
        DataError: Naming the row, what is wrong, and the way out.
    """
    if on_error == "stop":
        raise DataError(
            f"{bad.origin}: {bad.reason}. To go on without such rows, set data.on_error: skip "
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
        tokenizer: Turns its rows into tokens.
        folder: Empty; receives the tokens, the list of dropped rows and that of skipped ones.
        on_error: What to do with a row that cannot be read.
        limit: Rows to read at most.
        workers: Processes that tokenize, where there is enough to do.

    Raises:
        DataError: A row cannot be read and `on_error` is `stop`, or the source holds none.
    """
    reader = SchemaReader(located.source, tokenizer.want)
    if on_error == "stop" and located.size_bytes > _WORTH_CHECKING_BYTES:
        # A bad row at the end is better met now than after an hour of tokenizing.
        for _ in rows_of(located, SchemaReader(located.source, tokenizer.want), on_error, limit):
            pass
    tally = IngestWriter()
    rows = rows_of(located, reader, on_error, limit)
    with RowWriter(folder / _TOKENS, STORED) as writer:
        for outcome in tokenized(rows, tokenizer, workers):
            if isinstance(outcome, BadRecord):
                stop_at(outcome, on_error)
            tally.add(outcome, writer)
    tally.write(folder, reader)


class IngestWriter:
    """Counts what becomes of rows while they pass."""

    def __init__(self) -> None:
        self._read = self._kept = self._truncated = self._tokens = self._supervised = 0
        self._dropped: list[Dropped] = []
        self._skipped: list[BadRecord] = []

    def add(self, outcome: Outcome, writer: RowWriter) -> None:
        document = self._read
        self._read += 1
        if isinstance(outcome, Dropped):
            self._dropped.append(outcome)
        elif isinstance(outcome, BadRecord):
            self._skipped.append(outcome)
        else:
            self._kept += 1
            self._truncated += any(row.truncated for row in outcome)
            for row in outcome:
                writer.add(row.id, document, row.input_ids, row.labels, row.split, row.about)
                self._tokens += len(row.input_ids)
                self._supervised += int((row.labels != IGNORE).sum())

    def write(self, folder: Path, reader: SchemaReader) -> None:
        write_jsonl(folder / DROPPED, ({"id": d.id, "reason": d.reason} for d in self._dropped))
        write_jsonl(folder / SKIPPED, ({"id": s.origin, "reason": s.reason} for s in self._skipped))
        about = IngestStats(
            shapes=reader.shapes,
            rows_read=self._read,
            rows_skipped=len(self._skipped),
            rows_dropped=len(self._dropped),
            rows_kept=self._kept,
            rows_truncated=self._truncated,
            tokens=self._tokens,
            supervised=self._supervised,
            needed=min((d.needed for d in self._dropped if d.needed), default=0),
            unused=tuple(sorted(reader.unused)),
            reasons=dict(Counter(d.reason.split(":")[0] for d in self._dropped)),
        )
        (folder / _ABOUT).write_text(json.dumps(asdict(about)))


def tokenized_source(
    located: ResolvedSource,
    rows: RowTokenizer,
    tokenizer: str,
    cache: Cache,
    *,
    limit: int | None = None,
    workers: int = 1,
    on_error: Literal["stop", "skip"] = "stop",
) -> Ingested:
    """Return a source tokenized, from the cache where it has been done before.

    Args:
        located: The source.
        rows: Turns its rows into tokens.
        tokenizer: The tokenizer's fingerprint.
        cache: Where the outcome is kept.
        limit: As in `ingest`.
        workers: As in `ingest`.
        on_error: As in `ingest`.

    Raises:
        DataError: As in `ingest`.
    """
    source = located.source
    key = cache_key(
        located.digest(), source.shape, sorted(source.columns.items()), limit, on_error,
        tokenizer, rows.template.source if rows.template else "",
        rows.want, rows.loss_on, rows.max_length,
    )  # fmt: skip
    folder = cache.entry(
        key,
        lambda part: ingest(located, rows, part, on_error=on_error, limit=limit, workers=workers),
    )
    return open_ingested(source, folder)
