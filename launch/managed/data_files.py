"""Rows of a job, converted to a provider's format and checked, as JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from launch.managed.formats import converter
from launch.managed.graders.reference import reference_check
from planning.managed.run import ManagedRun
from training.config.data import Source
from training.config.method_base import RowKind
from training.data.mixing.sampling import split_held_out
from training.data.readers.records import SourceRecord
from training.data.readers.sources import locate
from training.data.schema.rows import Row, RowError
from training.data.schema.schema_reader import SchemaReader
from training.errors import DataError, JobError, Problem

_MOST_PROBLEMS = 10


@dataclass(frozen=True)
class ManagedData:
    """Records of a job in a provider's format.

    Attributes:
        train: Records to learn from.
        validation: Held-out records.
        skipped: Rows that were left out, as `data.on_error: skip` allows.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    skipped: int = 0

    def write(self, folder: Path) -> list[Path]:
        """Write the records into a folder, and return the files."""
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for name, lines in (("train", self.train), ("validation", self.validation)):
            if lines:
                path = folder / f"{name}.jsonl"
                path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
                files.append(path)
        return files


def convert_data(run: ManagedRun, source: str) -> ManagedData:
    """Return the rows of a job in the provider's format.

    Args:
        run: The job as the provider runs it.
        source: Name of the job file, for messages.

    Raises:
        JobError: Rows cannot be converted, or there are too few or too many; lists every problem up
            to a limit.
    """
    data, title = run.job.data, run.provider.title
    problems: list[Problem] = []
    lines, prompts, skipped = _read(run, data.train, "data.train", problems)
    if data.limit is not None:
        lines, prompts = lines[: data.limit], prompts[: data.limit]
    validation: list[str] = []
    if data.validation.wanted and not run.model.validation:
        problems.append(
            Problem(
                "data.validation",
                f"{title} uses no held-out rows for {run.model.name}",
                fix="Leave it out, and evaluate the model that it makes",
            )
        )
    elif data.validation.source is not None:
        where = "data.validation.source"
        validation, _, more = _read(run, (data.validation.source,), where, problems)
        skipped += more
    elif data.validation.split:
        lines, validation = _split(lines, prompts, data.validation.split, run.job.train.seed)
    problems += _amount(run, len(lines), len(validation))
    if problems:
        raise JobError(source, problems)
    return ManagedData(tuple(lines), tuple(validation), skipped)


def _split(
    lines: list[str], prompts: list[str], share: float, seed: int
) -> tuple[list[str], list[str]]:
    """Return training and held-out records; records of one prompt stay on one side."""
    number = {prompt: index for index, prompt in enumerate(dict.fromkeys(prompts))}
    groups = np.array([number[prompt] for prompt in prompts], dtype=np.int64)
    kept, held_out = split_held_out([groups], share, np.random.default_rng(seed))
    return [lines[i] for i in kept[0]], [lines[i] for i in held_out[0]]


def _amount(run: ManagedRun, rows: int, held_out: int) -> Iterator[Problem]:
    most = run.method.max_validation_rows
    if most is not None and held_out > most:
        yield Problem(
            "data.validation",
            f"{run.provider.title} takes {most:,} held-out rows at most ({run.method.rows_source})",
            f"{held_out:,}",
            "Hold out fewer rows",
        )
    low, high = run.method.min_rows, run.method.max_rows
    if rows < low or (high is not None and rows > high):
        allowed = f"{low:,} or more" if high is None else f"{low:,} to {high:,}"
        yield Problem(
            "data.train",
            f"{run.provider.title} takes {allowed} rows for {run.method.technique} "
            f"({run.method.rows_source})",
            f"{rows:,}",
            "Add rows" if rows < low else "Set data.limit",
        )


def _read(
    run: ManagedRun, sources: tuple[Source, ...], key: str, problems: list[Problem]
) -> tuple[list[str], list[str], int]:
    """Return the records of sources, their prompts, and the number of rows left out."""
    convert, rows = converter(run.format)
    check = reference_check(run.packed_rewards)
    lines: list[str] = []
    prompts: list[str] = []
    skipped = 0
    for index, source in enumerate(sources):
        where = f"{key}.{index}" if len(sources) > 1 else key
        try:
            for origin, row in _rows(source, rows):
                try:
                    if isinstance(row, RowError):
                        raise row
                    check(row)
                    record = convert(row)
                except RowError as error:
                    if run.job.data.on_error == "skip":
                        skipped += 1
                    elif len(problems) < _MOST_PROBLEMS:
                        fix = "Correct the row, or set data.on_error: skip"
                        problems.append(Problem(where, f"{origin}: {error}", fix=fix))
                    continue
                lines.append(json.dumps(record, ensure_ascii=False))
                prompts.append(_prompt(record))
        except DataError as error:
            problems.append(Problem(where, str(error), source.source))
    return lines, prompts, skipped


def _rows(source: Source, want: RowKind) -> Iterator[tuple[str, Row | RowError]]:
    """Yield the rows of a source with their origin; for a row that cannot be read, the error.

    Raises:
        DataError: The source cannot be read.
    """
    if source.source.startswith("s3://"):
        raise DataError(
            "rows are converted before they are sent, and these are in S3. Name a local copy"
        )
    reader = SchemaReader(source, want)
    for number, (_, record) in enumerate(locate(source).records()):
        if source.limit is not None and number >= source.limit:
            return
        if not isinstance(record, SourceRecord):
            yield record.origin, RowError(record.reason)
            continue
        try:
            yield record.origin, reader.read(record)
        except RowError as error:
            yield record.origin, error


def _prompt(record: dict[str, Any]) -> str:
    """Return what two records must share to be on one side of a split."""
    if "prompt" in record:
        return json.dumps(record["prompt"])
    messages = record["messages"]
    last = len(messages) - (messages[-1]["role"] == "assistant")
    return json.dumps(messages[:last])
