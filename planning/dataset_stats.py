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


Sides = tuple[str, ...]
"""Texts that a row is tokenized as: one, or the two of a pair."""


@dataclass
class _Sample:
    """Sample of the rows of one source."""

    rows: float
    texts: list[Sides] = field(default_factory=list)
    size: int = 0
    note: str = ""


def read_dataset_stats(job: Job, shape: ModelShape) -> DatasetStats:
    """Return the statistics of a job's rows.

    Raises:
        JobError: A source cannot be read from this machine, and the job sets neither a limit nor
            `train.max_steps`.
    """
    data = job.data
    end = time.monotonic() + _READING_S
    samples = [_read(job, source, end) for source in data.train]
    if data.prompts:
        each: list[Sides] = [(text,) for text in data.prompts]
        samples = [_Sample(float(len(data.prompts) * data.repeat), each)]
    texts = [text for sample in samples for text in sample.texts]
    per_token, guess = chars_per_token(job, shape.vocab, [side for row in texts for side in row])
    added = 0 if job.method.rows == "text" else _TEMPLATE_TOKENS
    most = float(data.max_length)
    sides = [[min(most, len(side) / per_token + added) for side in row] for row in texts]
    sides = sides or [[most] * step_profile(job).sequences]
    rows, held_out = _count(job, samples, end)
    mean, longest = sum(map(sum, sides)) / len(sides), max(map(max, sides))
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


def _count(job: Job, samples: list[_Sample], end: float) -> tuple[float, float]:
    """Return the number of training rows and of held-out rows."""
    data = job.data
    weights = [1.0] if data.prompts else [source.weight for source in data.train]
    rows = sum(s.rows * weight for s, weight in zip(samples, weights, strict=True))
    if data.limit is not None:
        rows = min(rows, data.limit)
    held_out = 0.0
    if data.validation.source is not None:
        held_out = _read(job, data.validation.source, end).rows
    elif data.validation.split:
        held_out = rows * data.validation.split
        rows -= held_out
    if data.replay is not None:
        rows /= 1 - data.replay.share
    return rows, held_out


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
    texts: list[Sides] = []
    number, done, added = 0, 0, 0
    for cursor, record in located.records():
        if limit is not None and number >= limit:
            break
        if number >= _SAMPLE_ROWS and time.monotonic() > end:
            chars = sum(len(side) for row in texts for side in row)
            rows = _estimate_rows(located, number, done, chars)
            expansion = (number + added) / number
            return _Sample(min(rows, limit or rows) * expansion, texts, located.size_bytes)
        number += 1
        if isinstance(record, SourceRecord):
            sides = _sides(reader, record)
            texts += sides
            added += len(sides) - 1
        done = _before(located, cursor)
    return _Sample(float(number + added), texts, located.size_bytes)


def _sides(reader: Any, record: Any) -> list[Sides]:
    """Return the texts that are tokenized of each row of a record: of a ranking, of each pair.

    A record of unknown schema is one row with all of its texts.
    """
    from training.data.schema.rows import PreferenceRow, PromptRow, RankingRow, RowError

    try:
        row = reader.read(record)
    except (RowError, DataError):
        return [(_joined(record.values),)]
    if isinstance(row, PreferenceRow):
        return [(_joined([row.prompt, row.chosen]), _joined([row.prompt, row.rejected]))]
    if isinstance(row, RankingRow):
        answers = [_joined([row.prompt, answer]) for answer in row.answers]
        return [(answers[pair.chosen], answers[pair.rejected]) for pair in row.pairs]
    if isinstance(row, PromptRow):
        return [(_joined(row.prompt),)]
    return [(_joined([getattr(row, name) for name in row.__slots__ if name != "id"]),)]


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


def _before(located: ResolvedSource, cursor: ReadCursor) -> int:
    """Return the bytes before a record, as far as its format reports them."""
    done: int = sum(path.stat().st_size for path, _ in located.files[: cursor.file])
    return done + cursor.position.offset


def _estimate_rows(located: ResolvedSource, number: int, done: int, chars: int) -> float:
    """Return the estimated rows of a source of which `number` were read."""
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
