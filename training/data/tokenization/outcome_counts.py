"""Counts of what became of the rows of a source, for the report and its warnings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from training.data.readers.records import BadRecord
from training.data.tokenization.token_rows import IGNORE, Dropped, Outcome, SplitRow


@dataclass
class OutcomeCounts:
    """Counts of the outcomes of rows.

    Attributes:
        rows_read: Rows read.
        rows_skipped: Rows that could not be read and were skipped (`on_error: skip`).
        rows_dropped: Rows without anything to train on.
        rows_kept: Remaining rows.
        rows_truncated: Kept rows whose end was cut off.
        answers_cut: Answers of conversations that begin behind the cut, so are not learned.
        rows_split: Conversations that were split at turns.
        parts: Rows that they became.
        parts_dropped: Parts of them without anything to train on.
        rows_with_markup: Rows whose text holds the chat template's markup already.
        markup_example: First of them, and its markup.
        tokens: Tokens of the kept rows.
        supervised: Supervised tokens of the kept rows.
    """

    rows_read: int = 0
    rows_skipped: int = 0
    rows_dropped: int = 0
    rows_kept: int = 0
    rows_truncated: int = 0
    answers_cut: int = 0
    rows_split: int = 0
    parts: int = 0
    parts_dropped: int = 0
    rows_with_markup: int = 0
    markup_example: str = ""
    tokens: int = 0
    supervised: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count the outcome of one source row."""
        self.rows_read += 1
        if isinstance(outcome, Dropped):
            self.rows_dropped += 1
            return
        if isinstance(outcome, BadRecord):
            self.rows_skipped += 1
            return
        rows = outcome.rows if isinstance(outcome, SplitRow) else outcome
        if isinstance(outcome, SplitRow):
            self.rows_split += 1
            self.parts += len(rows)
            self.parts_dropped += len(outcome.dropped)
        self.rows_kept += 1
        self.rows_truncated += any(row.truncated for row in rows)
        if markup := rows[0].markup:
            self.rows_with_markup += 1
            self.markup_example = self.markup_example or f"{rows[0].id}: {markup!r}"
        for row in rows:
            self.answers_cut += row.answers_cut
            self.tokens += len(row.input_ids)
            self.supervised += int((row.labels != IGNORE).sum())

    def merge(self, other: OutcomeCounts) -> None:
        """Add the counts of later rows."""
        for field in fields(self):
            ours, theirs = getattr(self, field.name), getattr(other, field.name)
            setattr(self, field.name, (ours or theirs) if isinstance(ours, str) else ours + theirs)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts by name."""
        return asdict(self)
