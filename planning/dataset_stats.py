"""Number and length of the rows of a job, estimated from a sample.

Rows are read with the reader that training uses until a time limit; the number of the remaining
rows is extrapolated from the sizes of the files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planning.method_costs import step_profile
from planning.model_shape import ModelShape
from planning.text_windows import window_lengths
from planning.tokens import chars_per_token
from training.config import Job
from training.config.data import Source
from training.config.model import STAGE
from training.errors import DataError, JobError, Problem

if TYPE_CHECKING:
    from training.data.readers.sources import ReadCursor, ResolvedSource

_READING_S = 0.2
_SAMPLE_ROWS = 200
_UNWRITTEN = 1000
"""Rows that an earlier stage is assumed to write if the job sets no limit."""
_TEMPLATE_TOKENS = 12
"""Tokens that a chat template adds to a row."""
_PACKED_FULL = 0.97
"""Packing efficiency: the share of a packed row that is not padding."""


@dataclass(frozen=True)
class DatasetStats:
    """Statistics of the tokenized rows of a job.

    Attributes:
        train: Rows of one epoch; with packing, rows of full length.
        held_out: Held-out rows.
        tokens: Mean number of tokens of a row, both sides of a pair counted.
        longest: Tokens of the longest sequence.
        size_gib: Size of the source files.
        notes: Assumptions of the estimate.
    """

    train: float
    held_out: float
    tokens: float
    longest: int
    size_gib: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Sides:
    """Texts that a row is tokenized as: one, or the two of a pair.

    Attributes:
        texts: The texts.
        cut: Whether a text that is too long becomes several rows; others lose their end.
        repeated: Text that each of these rows repeats: the system message of a conversation.
    """

    texts: tuple[str, ...]
    cut: bool = False
    repeated: str = ""


@dataclass
class _Sample:
    """Sample of one source, whose `rows` are counted before long texts are cut."""

    rows: float
    sides: list[_Sides] = field(default_factory=list)
    size: int = 0
    note: str = ""


def read_dataset_stats(job: Job, shape: ModelShape) -> DatasetStats:
    """Return the statistics of a job's rows.

    Raises:
        JobError: As `read_rows`.
    """
    return read_rows(job, shape.vocab)


def read_rows(job: Job, vocabulary: int) -> DatasetStats:
    """Return the statistics of a job's rows, for a model with a vocabulary of a size.

    Raises:
        JobError: A source cannot be read from this machine, and the job sets neither a limit nor
            `train.max_steps`.
    """
    data = job.data
    end = time.monotonic() + _READING_S
    samples = [_read(job, source, end) for source in data.train]
    if data.prompts:
        each = [_Sides((text,)) for text in data.prompts]
        samples = [_Sample(float(len(data.prompts) * data.repeat), each)]
    texts = [text for sample in samples for sides in sample.sides for text in sides.texts]
    per_token, guess = chars_per_token(job, vocabulary, texts)
    most = float(data.max_length)
    lengths = [row for sample in samples for row in _cut_rows(job, sample, per_token)]
    lengths = lengths or [[most] * step_profile(job).sequences]
    rows, held_out = _count(job, samples, end, per_token)
    mean, longest = sum(map(sum, lengths)) / len(lengths), max(map(max, lengths))
    if data.packing:
        full = most * _PACKED_FULL
        rows, held_out, mean, longest = rows * mean / full, held_out * mean / full, full, most
    notes = dict.fromkeys(note for note in (guess, *(s.note for s in samples)) if note)
    return DatasetStats(
        train=max(rows, 1.0),
        held_out=held_out,
        tokens=mean,
        longest=min(data.max_length, round(longest + 0.5)),
        size_gib=sum(s.size for s in samples) / 2**30,
        notes=tuple(notes),
    )


def _cut_rows(job: Job, sample: _Sample, per_token: float) -> list[list[float]]:
    """Return the tokens of each sequence of each row, after long texts are cut into rows.

    Args:
        job: The run.
        sample: Sample of a source.
        per_token: Characters of a token.
    """
    data = job.data
    added = 0 if job.method.rows == "text" else _TEMPLATE_TOKENS
    rows: list[list[float]] = []
    for sides in sample.sides:
        lengths = [len(text) / per_token + added for text in sides.texts]
        if sides.cut:
            repeated = round(len(sides.repeated) / per_token) or data.overlap
            overlap = min(repeated, data.max_length - 2)
            rows += [[part] for part in window_lengths(lengths[0], data.max_length, overlap)]
        else:
            rows.append([min(float(data.max_length), length) for length in lengths])
    return rows


def _count(job: Job, samples: list[_Sample], end: float, per_token: float) -> tuple[float, float]:
    """Return the number of training rows and of held-out rows, after long texts are cut.

    Args:
        job: The run.
        samples: Samples of the training sources.
        end: Time at which reading stops.
        per_token: Characters of a token.
    """
    data = job.data
    weights = [1.0] if data.prompts else [source.weight for source in data.train]
    weighted = [s.rows * weight for s, weight in zip(samples, weights, strict=True)]
    parts = [_parts(job, sample, per_token) for sample in samples]
    rows = sum(count * part for count, part in zip(weighted, parts, strict=True))
    # A limit counts the rows of the sources.
    if data.limit is not None and sum(weighted) > data.limit:
        rows *= data.limit / sum(weighted)
    held_out = 0.0
    if data.validation.source is not None:
        validation = _read(job, data.validation.source, end)
        held_out = validation.rows * _parts(job, validation, per_token)
    elif data.validation.split:
        held_out = rows * data.validation.split
        rows -= held_out
    if data.replay is not None:
        rows /= 1 - data.replay.share
    return rows, held_out


def _parts(job: Job, sample: _Sample, per_token: float) -> float:
    """Return the mean number of rows that a row of a source is cut into."""
    if not sample.sides:
        return 1.0
    return len(_cut_rows(job, sample, per_token)) / len(sample.sides)


def _read(job: Job, source: Source, end: float) -> _Sample:
    """Read records until the time limit and estimate how many there are.

    Raises:
        JobError: The source cannot be read, and the job does not say how much of it is used.
    """
    # Imported here: a job that contains its prompts reads nothing.
    from training.data.readers.sources import locate

    if source.source.startswith(STAGE):
        taken = source.limit or job.data.limit or _UNWRITTEN
        stage = source.source.removeprefix(STAGE)
        return _Sample(float(taken), note=f"stage {stage} writes the rows: assumed to be {taken:,}")
    try:
        located = locate(source)
        if located.files or source.source.startswith("builtin:"):
            return _read_files(job, source, located, end)
        reason = "it is on the Hub, which a plan does not read"
    except DataError as error:
        reason = str(error)
    known = source.limit or job.data.limit
    if job.train.max_steps is None and known is None:
        fix = "Name a local copy, or set data.limit or train.max_steps"
        problem = Problem("data.train", f"its length is unknown: {reason}", source.source, fix)
        raise JobError(job.name, [problem])
    note = f"{source.source} was not read ({reason}); its rows are assumed to have full length"
    return _Sample(float(known or 1), note=note)


def _read_files(job: Job, source: Source, located: ResolvedSource, end: float) -> _Sample:
    from training.data.readers.records import SourceRecord
    from training.data.schema.schema_reader import SchemaReader

    reader = SchemaReader(source, job.method.rows)
    limit = source.limit or job.data.limit
    sides: list[_Sides] = []
    number, done, added = 0, 0, 0
    for cursor, record in located.records():
        if limit is not None and number >= limit:
            break
        if number >= _SAMPLE_ROWS and time.monotonic() > end:
            chars = sum(len(text) for row in sides for text in row.texts)
            rows = estimate_rows(located, number, done, chars)
            expansion = (number + added) / number
            return _Sample(min(rows, limit or rows) * expansion, sides, located.size_bytes)
        number += 1
        if isinstance(record, SourceRecord):
            of_record = _sides(
                reader,
                record,
                cut=job.method.rows == "text",
                split=job.data.long_conversations == "split",
            )
            sides += of_record
            added += len(of_record) - 1
        done = bytes_before(located, cursor)
    return _Sample(float(number + added), sides, located.size_bytes)


def _sides(reader: Any, record: Any, *, cut: bool = False, split: bool = False) -> list[_Sides]:
    """Return the texts that are tokenized of each row of a record: of a ranking, of each pair.

    A record of unknown schema is one row with all of its texts.

    Args:
        reader: Reader of the records.
        record: The record.
        cut: Whether the method cuts all rows that are too long, and not only texts.
        split: Whether conversations that are too long are split at turns.
    """
    from training.data.schema.rows import (
        DialogueRow,
        PreferenceRow,
        PromptRow,
        RankingRow,
        RowError,
        TextRow,
    )

    try:
        row = reader.read(record)
    except (RowError, DataError):
        return [_Sides((_joined(record.values),), cut)]
    if isinstance(row, PreferenceRow):
        return [_Sides((_joined([row.prompt, row.chosen]), _joined([row.prompt, row.rejected])))]
    if isinstance(row, RankingRow):
        answers = [_joined([row.prompt, answer]) for answer in row.answers]
        return [_Sides((answers[pair.chosen], answers[pair.rejected])) for pair in row.pairs]
    if isinstance(row, PromptRow):
        return [_Sides((_joined(row.prompt),))]
    text = _joined([getattr(row, name) for name in row.__slots__ if name != "id"])
    if isinstance(row, DialogueRow) and split:
        system = [message for message in row.messages if message["role"] == "system"]
        return [_Sides((text,), True, _joined([system[:1], row.tools or []]))]
    return [_Sides((text,), cut or isinstance(row, TextRow))]


def _joined(value: Any) -> str:
    return "\n".join(_texts(value))


def _texts(value: Any) -> Iterator[str]:
    """Yield every text within a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, Iterable):
        for item in value:
            yield from _texts(item)
    elif hasattr(value, "content"):
        yield from _texts(value.content)


def bytes_before(located: ResolvedSource, cursor: ReadCursor) -> int:
    """Return the bytes of a source before a record, as far as its format reports them."""
    done: int = sum(path.stat().st_size for path, _ in located.files[: cursor.file])
    return done + cursor.position.offset


def estimate_rows(located: ResolvedSource, number: int, done: int, chars: int) -> float:
    """Return the estimated rows of a source.

    Args:
        located: The source.
        number: Rows that were read.
        done: Bytes that were read; 0 if the format does not report them.
        chars: Characters of the rows that were read.
    """
    if located.files and all(path.suffix == ".parquet" for path, _ in located.files):
        import pyarrow.parquet

        return float(sum(pyarrow.parquet.read_metadata(path).num_rows for path, _ in located.files))
    whole = sum(_plain_size(path) for path, _ in located.files)
    return number * max(1.0, whole / max(done, chars, 1))


def _plain_size(path: Path) -> int:
    """Return the decompressed size of a file; gzip stores it, modulo 4 GiB, in its last 4 bytes."""
    if path.suffix != ".gz":
        return path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(-4, os.SEEK_END)
        return int.from_bytes(stream.read(4), "little")
