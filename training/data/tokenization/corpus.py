"""Texts and typed rows of a job, for training a tokenizer and for measuring a loss."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.config.data import Source
from training.config.job import Job
from training.data.mixing.mixture import MIXED, TRAIN, is_grouped
from training.data.mixing.text_split import split_documents
from training.data.readers.ingest import read_rows, tokenize_source
from training.data.readers.records import BadRecord
from training.data.readers.sources import locate
from training.data.schema.pairs import row_sequences
from training.data.schema.rows import (
    CompletionRow,
    DialogueRow,
    PreferenceRow,
    PromptRow,
    RankingRow,
    Row,
    TextRow,
    UnpairedRow,
)
from training.data.schema.schema_reader import SchemaReader
from training.data.storage.cache import Cache, cache_key
from training.data.storage.table import RowTable, load_row_table, token_rows, write_row_table
from training.data.tokenization.encoder import fingerprint
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def iter_texts(job: Job) -> Iterator[str]:
    """Yield the texts of a job's training rows, to train a tokenizer.

    Held-out rows are left out: a vocabulary that has seen them would encode them in fewer tokens.

    Raises:
        DataError: A row cannot be read and the job does not skip such rows.
    """
    sides = None
    if job.data.validation.split and not job.data.streaming:
        rng = np.random.default_rng(job.train.seed)
        sides, _ = split_documents(job, rng, grouped=is_grouped(job))
    for place, source in enumerate(job.data.train):
        limits = [n for n in (job.data.limit, source.limit) if n]
        reader = SchemaReader(source, job.method.rows)
        rows = read_rows(locate(source), reader, job.data.on_error, min(limits, default=None))
        trained = None if sides is None else set(sides[place].tolist())
        for number, row in enumerate(rows):
            if not isinstance(row, BadRecord) and (trained is None or number in trained):
                yield from _texts(row)
    if job.data.replay:
        for row in _read(job, job.data.replay.source, None):
            yield from _texts(row)


def typed_rows(job: Job) -> Iterator[Row]:
    """Yield the typed training rows of a job.

    Raises:
        DataError: A row cannot be read and the job does not skip such rows.
    """
    for _ in range(job.data.repeat if job.data.prompts else 0):
        for number, prompt in enumerate(job.data.prompts, start=1):
            yield PromptRow(f"prompts:{number}", prompt, None, {})
    for source in job.data.train:
        yield from _read(job, source, job.data.limit)


def _read(job: Job, source: Source, limit: int | None) -> Iterator[Row]:
    limits = [n for n in (limit, source.limit) if n]
    reader = SchemaReader(source, job.method.rows)
    rows = read_rows(locate(source), reader, job.data.on_error, min(limits, default=None))
    yield from (row for row in rows if not isinstance(row, BadRecord))


def _texts(row: Row) -> Iterator[str]:
    if isinstance(row, PreferenceRow | RankingRow | UnpairedRow):
        for side in row_sequences(row, templated=False):
            yield from _texts(side)
    elif isinstance(row, TextRow):
        yield row.text
    elif isinstance(row, CompletionRow):
        yield f"{row.prompt}\n{row.completion}"
    elif isinstance(row, DialogueRow):
        yield "\n".join(message["content"] for message in row.messages)


def load_texts(
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    cache_dir: Path,
    limit: int | None = None,
) -> RowTable:
    """Return general text as rows whose tokens are all supervised, to measure a loss.

    Args:
        source: Any source; conversations are rendered as text.
        tokenizer: Tokenizer of the model.
        max_length: Maximum tokens of a row.
        cache_dir: Folder that keeps tokenized data.
        limit: Maximum number of rows.

    Raises:
        DataError: The source cannot be read, or holds no text.
    """
    rows = RowTokenizer.from_tokenizer(
        tokenizer, chat_template=None, want="text", loss_on="all", max_length=max_length
    )
    cache = Cache(cache_dir, fallback=cache_dir.parent / "cache-texts")
    located = locate(source)
    limits = [n for n in (limit, source.limit) if n]
    ingested = tokenize_source(
        located, rows, fingerprint(tokenizer), cache, limit=min(limits, default=None)
    )
    if not len(ingested.store):
        raise DataError(f"{source.source}: there is no text in it")

    def build(folder: Path) -> None:
        every = token_rows(ingested.store, range(len(ingested.store)))
        about = write_row_table(folder / TRAIN, ([row] for row in every))
        (folder / MIXED).write_text(json.dumps(about))

    entry = cache.entry(cache_key("texts", ingested.folder.name), build)
    return load_row_table(entry / TRAIN, json.loads((entry / MIXED).read_text()))
