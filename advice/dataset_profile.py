"""Profile of a data set: kind and number of its rows, and how its answers relate to its prompts."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from advice.facts import Form
from planning.dataset_stats import bytes_before, estimate_rows
from training.config.data import Source
from training.data.readers.records import SourceRecord
from training.data.readers.sources import locate
from training.data.schema.detection import WantedRows
from training.data.schema.prompt_text import prompt_text
from training.data.schema.rows import (
    CompletionRow,
    DialogueRow,
    Message,
    PreferenceRow,
    PromptRow,
    RankingRow,
    Row,
    RowError,
    TextRow,
    UnpairedRow,
)
from training.data.schema.schema_reader import SchemaReader
from training.errors import DataError

SAMPLE_ROWS = 400
_READING_S = 5.0
"""Time after which the number of the remaining rows is estimated."""
_WORD = re.compile(r"\w+")
_SHORTEST_WORD = 3
"""Shorter words, such as articles, are in most prompts and tell nothing."""
_QUESTION_MARKS = ("?", "？", "؟")
_MARKED_RESULT = re.compile(r"####\s*\S|\\boxed\{")
"""Markers of a final result that the rewards of `grpo` read: those of GSM8K and of MATH."""


@dataclass(frozen=True)
class DatasetProfile:
    """Profile of a data set.

    Attributes:
        form: Kind of the rows.
        rows: Number of rows.
        exact: False if the number is estimated from the size of the files.
        sample: Rows drawn from all that were read.
        texts: Text of each row of the sample.
        prompt_chars: Characters of a prompt, on average.
        answer_chars: Characters of an answer, on average.
        distinct_answers: Share of the answers that are different; None without answers.
        grounding: Share of the answers' words that are in their prompts; None without answers.
        questions: Share of the prompts that end with a question mark; None without prompts.
        verifiable: True if most answers are references for a reward, or end with a marked result.
        bad: Rows of the sample that cannot be used, with the first reason.
        unread: Columns that hold something in most rows of the sample and were not read.
    """

    form: Form
    rows: int
    exact: bool
    sample: tuple[Row, ...]
    texts: tuple[str, ...]
    prompt_chars: float = 0.0
    answer_chars: float = 0.0
    distinct_answers: float | None = None
    grounding: float | None = None
    questions: float | None = None
    verifiable: bool = False
    bad: tuple[int, str] = (0, "")
    unread: tuple[str, ...] = ()

    @property
    def row_chars(self) -> float:
        """Characters of a row, on average."""
        return sum(map(len, self.texts)) / max(1, len(self.texts))


def profile_dataset(
    source: Source, want: WantedRows = "any", limit: int | None = None
) -> DatasetProfile:
    """Return the profile of a source, from a sample of its rows.

    Args:
        source: The source.
        want: Kind of row that the job's method trains on; `any` without a method.
        limit: Use the first N rows only.

    Raises:
        DataError: The source cannot be read, has no rows, or rows that the method cannot train on.
    """
    records, number, exact = _draw(source, limit or source.limit)
    if not number:
        raise DataError(f"{source.source} has no rows")
    reader = SchemaReader(source, want)
    rows: list[Row] = []
    bad: list[str] = []
    for record in records:
        try:
            rows.append(reader.read(record))
        except RowError as error:
            bad.append(f"{record.origin}: {error}")
    if not rows:
        raise DataError(f"none of {number:,} rows of {source.source} can be used; {bad[0]}")
    return DatasetProfile(
        form=_form(rows[0]),
        rows=number,
        exact=exact,
        sample=tuple(rows),
        texts=tuple(row_text(row) for row in rows),
        bad=(len(bad), bad[0] if bad else ""),
        unread=tuple(
            sorted(name for name, count in reader.unused_rows.items() if 2 * count > len(rows))
        ),
        **_answers(rows),
    )


def _draw(source: Source, limit: int | None) -> tuple[list[SourceRecord], int, bool]:
    """Return a random sample of the records, their number, and whether all were counted.

    Files are often sorted, so that the first rows would not do.

    Args:
        source: The source.
        limit: Number of rows that are used.
    """
    draw = random.Random(0)
    sample: list[SourceRecord] = []
    number, end = 0, time.monotonic() + _READING_S
    located = locate(source)
    for cursor, record in located.records():
        if not isinstance(record, SourceRecord):
            continue
        number += 1
        if len(sample) < SAMPLE_ROWS:
            sample.append(record)
        elif (place := draw.randrange(number)) < SAMPLE_ROWS:
            sample[place] = record
        if number == limit:
            break
        if number % 1000 == 0 and located.files and time.monotonic() > end:
            chars = number * sum(len(str(drawn.values)) for drawn in sample) // len(sample)
            rows = estimate_rows(located, number, bytes_before(located, cursor), chars)
            return sample, int(min(round(rows, -3), limit or rows)), False
    return sample, number, True


def _answers(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the fields of a profile that describe prompts and answers."""
    pairs = [pair for row in rows if (pair := prompt_and_answer(row)) is not None]
    if not pairs:
        return {}
    answers = [answer for _, answer in pairs if answer]
    facts: dict[str, Any] = {
        "prompt_chars": sum(len(prompt) for prompt, _ in pairs) / len(pairs),
        "answer_chars": sum(map(len, answers)) / max(1, len(answers)),
        "questions": _share(prompt.rstrip().endswith(_QUESTION_MARKS) for prompt, _ in pairs),
        "verifiable": _are_verifiable(rows[0], answers, len(pairs)),
    }
    if answers:
        facts["distinct_answers"] = len(set(answers)) / len(answers)
        facts["grounding"] = _grounding(pairs)
    return facts


def _are_verifiable(row: Row, answers: Sequence[str], number: int) -> bool:
    """Return whether a reward can check most answers.

    Args:
        row: A row, which tells the kind of all.
        answers: Answers that are not empty.
        number: Number of prompts.
    """
    if isinstance(row, PromptRow):
        return 2 * len(answers) > number
    return 2 * sum(bool(_MARKED_RESULT.search(answer)) for answer in answers) > number


def _share(values: Iterable[bool]) -> float:
    """Return the share of true values."""
    listed = list(values)
    return sum(listed) / max(1, len(listed))


def _grounding(pairs: Sequence[tuple[str, str]]) -> float:
    """Return the share of the answers' words that are in their prompts."""
    words = inside = 0
    for prompt, answer in pairs:
        known = set(_words(prompt))
        for word in _words(answer):
            words += 1
            inside += word in known
    return inside / max(1, words)


def _words(text: str) -> list[str]:
    words = [word.lower() for word in _WORD.findall(text)]
    return [word for word in words if len(word) >= _SHORTEST_WORD] or words


def _form(row: Row) -> Form:
    if isinstance(row, TextRow):
        return "text"
    if isinstance(row, PreferenceRow | RankingRow):
        return "preferences"
    if isinstance(row, UnpairedRow):
        return "ratings"
    return "prompts" if isinstance(row, PromptRow) else "answers"


def prompt_and_answer(row: Row) -> tuple[str, str] | None:
    """Return the prompt of a row and its answer, the better one of several; None for a text."""
    if isinstance(row, TextRow):
        return None
    if isinstance(row, DialogueRow):
        last = next((m for m in reversed(row.messages) if m["role"] == "assistant"), None)
        return prompt_text(row, last_answer=True), "" if last is None else _message_text(last)
    prompt = prompt_text(row, last_answer=False)
    if isinstance(row, PromptRow):
        return prompt, row.reference or ""
    if isinstance(row, CompletionRow | UnpairedRow):
        return prompt, _plain(row.completion)
    if isinstance(row, RankingRow):
        return prompt, _plain(row.answers[row.pairs[0].chosen if row.pairs else 0])
    return prompt, _plain(row.chosen)


def row_text(row: Row) -> str:
    """Return a row as one text: all of a text, or prompt and answer."""
    if isinstance(row, TextRow):
        return row.text
    if isinstance(row, DialogueRow):
        return "\n".join(map(_message_text, row.messages))
    pair = prompt_and_answer(row)
    assert pair is not None
    return "\n".join(filter(None, pair))


def _plain(answer: Any) -> str:
    if isinstance(answer, str):
        return answer
    return "\n".join(map(_message_text, answer))


def _message_text(message: Message) -> str:
    """Return what a message says: its text, then its tool calls as JSON."""
    calls = [json.dumps(call["function"]) for call in message.get("tool_calls") or ()]
    return "\n".join(filter(None, [str(message.get("content") or ""), *calls]))
