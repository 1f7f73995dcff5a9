"""Rows of the trials: a subset to train on, and held-out rows to choose and to compare by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advice.dataset_profile import DatasetProfile
from training.data.schema.rows import CompletionRow, DialogueRow, Row, TextRow
from training.errors import JobError, Problem
from training.run_folder import write_whole

_MOST_HELD_OUT = 80
_HELD_OUT_SHARE = 0.25
FEWEST_ROWS = 40


@dataclass(frozen=True)
class TrialRows:
    """Rows of the trials.

    Attributes:
        train: File of the rows that are trained on.
        examples: The first of these rows, for examples in a prompt.
        choosing: Held-out rows by which a learning rate is chosen.
        comparing: Held-out rows by which approaches are compared.
    """

    train: Path
    examples: tuple[Row, ...]
    choosing: tuple[Row, ...]
    comparing: tuple[Row, ...]


def write_subset(profile: DatasetProfile, folder: Path, source: str) -> TrialRows:
    """Write the training rows of the trials, and return them with the held-out rows.

    Half of the held-out rows choose the learning rate of each approach, so that the other half
    measures it without the advantage of a choice.

    Args:
        profile: Profile of the data, with a random sample of its rows.
        folder: Folder of the trials.
        source: The job file, for messages.

    Raises:
        JobError: There are too few rows, or rows without a loss to compare.
    """
    problems = []
    if profile.form not in ("text", "answers"):
        fix = (
            "Train each method of docs/alignment.md for a few steps, and compare by temper compare"
        )
        message = "compares losses of texts or answers"
        problems.append(Problem("--trials", message, profile.form, fix))
    if len(profile.sample) < FEWEST_ROWS:
        message = f"needs {FEWEST_ROWS} rows: intervals over fewer would say nothing"
        problems.append(Problem("--trials", message, str(len(profile.sample))))
    if problems:
        raise JobError(source, problems)
    held_out = min(_MOST_HELD_OUT, int(_HELD_OUT_SHARE * len(profile.sample)))
    rows, rest = profile.sample[held_out:], profile.sample[:held_out]
    train = folder / "train.jsonl"
    lines = [json.dumps(_as_record(row), ensure_ascii=False) for row in rows]
    write_whole(train, "\n".join(lines) + "\n")
    half = held_out // 2
    return TrialRows(train, rows[:5], rest[:half], rest[half:])


def _as_record(row: Row) -> dict[str, Any]:
    """Return a row as a line of JSON that is read as the same row."""
    if isinstance(row, TextRow):
        return {"text": row.text}
    if isinstance(row, DialogueRow):
        return {"messages": _messages(row), **({"tools": row.tools} if row.tools else {})}
    assert isinstance(row, CompletionRow)
    parts = {"prompt": row.prompt, "completion": row.completion}
    if row.system:
        parts["system"] = row.system
    return {**parts, **({"tools": row.tools} if row.tools else {})}


def _messages(row: DialogueRow) -> Sequence[dict[str, Any]]:
    """Return the messages; those that are context only keep that mark."""
    return [
        {**message, "learned": False}
        if message["role"] == "assistant" and index < row.answers_from
        else message
        for index, message in enumerate(row.messages)
    ]
