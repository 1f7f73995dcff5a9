"""How many rows a job trains on, and how long they are: read a little, reckon the rest.

Rows are read by the reader that training uses, for as long as a plan may take; what is not read is
reckoned from the size of the files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.plan.shape import Shape
from training.config import Job
from training.config.data import Source
from training.errors import DataError, JobError, Problem

_READING_S = 0.2
_SAMPLE_ROWS = 200
_CHARS_PER_TOKEN = 4.0
"""English text in a vocabulary of 30,000 pieces or more."""
_CHARS_PER_TOKEN_SMALL = 2.5
"""In one of some hundred to some thousand pieces."""
_SMALL_VOCABULARY = 8_000
_TEMPLATE_TOKENS = 12
"""What a chat template adds to a row."""
_PACKED_FULL = 0.97
"""How full packed rows are."""


@dataclass(frozen=True)
class Rows:
    """The rows of a job, as they are trained on.

    Attributes:
        train: Rows of one epoch; of full length where they are packed.
        held_out: Rows measured before, during and after training.
        tokens: Mean tokens of a row.
        longest: Tokens of the longest row.
        size_gib: Of the files they are read from.
        exact: Whether every row was counted.
        notes: How it was reckoned.
    """

    train: float
    held_out: float
    tokens: float
    longest: int
    size_gib: float
    exact: bool
    notes: tuple[str, ...] = ()


@dataclass
class _Sample:
    """What was read of one source."""

    rows: float = 0.0
    chars: list[int] | None = None
    size: int = 0
    exact: bool = True


def read_rows(job: Job, shape: Shape) -> Rows:
    """Count a job's rows and their tokens.

    Raises:
        JobError: A source cannot be looked at from here, and the job does not say how long it
            trains.
    """
    data, end = job.data, time.monotonic() + _READING_S
    notes: list[str] = []
    if data.prompts:
        sample = _Sample(len(data.prompts) * data.repeat, [len(p) for p in data.prompts])
        samples = [sample]
    else:
        samples = [_read(job, source, end, notes) for source in data.train]
    rows = sum(s.rows * w for s, w in zip(samples, _weights(job), strict=True))
    if data.limit is not None:
        rows = min(rows, data.limit)
    chars = [count for s in samples for count in s.chars or ()]
    per_token = _chars_per_token(job, shape, notes)
    overhead = 0 if job.method.rows == "text" else _TEMPLATE_TOKENS
    lengths = [count / per_token + overhead for count in chars] or [float(data.max_length)]
    kept = [min(length, data.max_length) for length in lengths]
    mean, longest = sum(kept) / len(kept), max(kept)
    if data.replay is not None:
        rows /= 1 - data.replay.share
    held_out = rows * data.validation.split if data.validation.split else 0.0
    if data.validation.source is not None:
        held_out = _read(job, data.validation.source, end, notes).rows
    else:
        rows -= held_out
    if data.packing:
        full = data.max_length * _PACKED_FULL
        rows, held_out = max(1.0, rows * mean / full), held_out * mean / full
        mean, longest = full, data.max_length
    return Rows(
        train=max(rows, 1.0),
        held_out=held_out,
        tokens=mean,
        longest=min(data.max_length, round(longest + 0.5)),
        size_gib=sum(s.size for s in samples) / 2**30,
        exact=all(s.exact for s in samples),
        notes=tuple(dict.fromkeys(notes)),
    )


def _weights(job: Job) -> list[float]:
    return [1.0] if job.data.prompts else [source.weight for source in job.data.train]


def _read(job: Job, source: Source, end: float, notes: list[str]) -> _Sample:
    """Read records until the time is up; reckon how many there are by how much was read."""
    # Imported here: a plan for prompts or a stream of known length reads nothing.
    from training.data.sources import locate

    try:
        located = locate(source)
        if not located.files and not source.source.startswith("builtin:"):
            return _elsewhere(job, source, notes)
        return _read_files(job, source, located, end)
    except DataError as error:
        if job.train.max_steps is not None:
            notes.append(f"{source.source} is not here; rows are taken to be of full length")
            return _Sample(rows=float(source.limit or 1), exact=False)
        fix = "Give a copy that is here, or say how long it trains with train.max_steps"
        raise JobError(job.name, [Problem("data.train", str(error), source.source, fix)]) from None


def _elsewhere(job: Job, source: Source, notes: list[str]) -> _Sample:
    known = source.limit or job.data.limit
    if job.train.max_steps is None and known is None:
        raise JobError(
            job.name,
            [
                Problem(
                    "data.train",
                    "is on the Hub, where a plan does not look: its length is not known",
                    source.source,
                    "Set data.limit or train.max_steps, or give a local copy",
                )
            ],
        )
    notes.append(f"{source.source} is on the Hub; rows are taken to be of full length")
    return _Sample(rows=float(known or 1), exact=False)


def _read_files(job: Job, source: Source, located: Any, end: float) -> _Sample:
    from training.data.records import Record
    from training.data.shapes import Reader

    reader = Reader(source, job.method.rows)
    limit = source.limit or job.data.limit
    chars: list[int] = []
    number, read_bytes, complete = 0, 0, True
    for cursor, record in located.records():
        if limit is not None and number >= limit:
            break
        if number >= _SAMPLE_ROWS and time.monotonic() > end:
            complete = False
            break
        number += 1
        if isinstance(record, Record):
            chars.append(_length(reader, record))
        read_bytes = _before(located, cursor)
    rows = float(number)
    if not complete:
        rows = _reckon(located, number, read_bytes, sum(chars))
        rows = min(rows, limit) if limit is not None else rows
    return _Sample(rows, chars, located.size_bytes, complete)


def _length(reader: Any, record: Any) -> int:
    from training.data.rows import RowError

    try:
        row = reader.read(record)
    except (RowError, DataError):
        return sum(_chars(record.values))
    return sum(_chars({name: getattr(row, name) for name in row.__slots__ if name != "id"}))


def _chars(value: Any) -> Iterator[int]:
    """The characters of every text within a value."""
    if isinstance(value, str):
        yield len(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _chars(item)
    elif isinstance(value, Iterable):
        for item in value:
            yield from _chars(item)
    elif hasattr(value, "content"):
        yield from _chars(value.content)


def _before(located: Any, cursor: Any) -> int:
    done: int = sum(path.stat().st_size for path, _ in located.files[: cursor.file])
    return done + int(cursor.position.offset)


def _reckon(located: Any, number: int, read_bytes: int, chars: int) -> float:
    """Rows of a source of which `number` were read."""
    if all(path.suffix == ".parquet" for path, _ in located.files):
        import pyarrow.parquet

        return float(sum(pyarrow.parquet.read_metadata(path).num_rows for path, _ in located.files))
    whole = sum(_plain_size(path) for path, _ in located.files)
    return number * max(1.0, whole / max(read_bytes, chars, 1))


def _plain_size(path: Path) -> int:
    """Bytes of a file once decompressed; gzip notes them, up to 4 GiB, at its end."""
    if path.suffix != ".gz":
        return path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(-4, os.SEEK_END)
        return int.from_bytes(stream.read(4), "little")


# --- characters to tokens ---------------------------------------------------------------------


def _chars_per_token(job: Job, shape: Shape, notes: list[str]) -> float:
    small = shape.vocab < _SMALL_VOCABULARY
    guess = _CHARS_PER_TOKEN_SMALL if small else _CHARS_PER_TOKEN
    notes.append(f"the model comes without a tokenizer: {guess:g} characters are taken for a token")
    return guess
