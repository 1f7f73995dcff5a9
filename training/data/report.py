"""What a run will learn from, in numbers: read, skipped, dropped, kept, and how it was packed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from training.data.tokenization.domain_terms import Terms
from training.data.tokenization.mask_preview import RowPreview


@dataclass(frozen=True)
class SourceReport:
    """One source.

    Attributes:
        source: As the job names it.
        role: train, validation or replay.
        shapes: The shapes its rows had.
        rows_read: Rows read.
        rows_skipped: Rows that could not be read and were passed over (`on_error: skip`).
        rows_dropped: Rows read that have nothing to learn.
        rows_kept: Rows left.
        rows_truncated: Of those kept, how many lost their end.
        tokens: Tokens of the rows kept.
        supervised: Of those, how many are learned.
        columns_unused: Columns of plain text records that were there and not read.
        tokens_trained: Tokens of it in the training rows, as often as they come up in an epoch.
    """

    source: str
    role: str
    shapes: tuple[str, ...]
    rows_read: int = 0
    rows_skipped: int = 0
    rows_dropped: int = 0
    rows_kept: int = 0
    rows_truncated: int = 0
    tokens: int = 0
    supervised: int = 0
    columns_unused: tuple[str, ...] = ()
    tokens_trained: int = 0


@dataclass(frozen=True)
class DataReport:
    """What a run will learn from.

    Attributes:
        sources: Each source.
        rows_train: Rows to train on (packed rows, when packing).
        rows_validation: Rows held out.
        documents: Documents in the training rows.
        tokens: Tokens in the training rows, padding left out.
        supervised: Of those, how many are learned.
        max_length: Longest row allowed.
        longest: Longest document, in tokens.
        median: Median length of a document, in tokens.
        truncated_share: Share of kept source rows that lost their end.
        packed: Whether rows hold several documents.
        efficiency: Share of the tokens of a batch that are not padding (for unpacked rows, with
            every row padded to the longest).
        dropped_reasons: How many rows were dropped for what.
        digest: Of the training rows' content.
        template: The chat template's name; empty when none was used.
        warnings: What a person should know before training.
        mask_preview: A few decoded rows.
        repeated: Training rows that repeat another one, token for token.
        leaked: Held-out rows that are among the training rows too.
        terms: How the domain's terms are split.
        streamed: Whether rows are read while training; the numbers are then of the first window.
    """

    sources: tuple[SourceReport, ...]
    rows_train: int
    rows_validation: int
    documents: int
    tokens: int
    supervised: int
    max_length: int
    longest: int
    median: float
    truncated_share: float
    packed: bool
    efficiency: float
    dropped_reasons: dict[str, int]
    digest: str
    template: str = ""
    warnings: tuple[str, ...] = ()
    mask_preview: tuple[RowPreview, ...] = ()
    terms: Terms | None = None
    repeated: int = 0
    leaked: int = 0
    streamed: bool = False

    @property
    def rows_read(self) -> int:
        """Rows read from every source."""
        return sum(source.rows_read for source in self.sources)

    @property
    def rows_skipped(self) -> int:
        """Rows that could not be read."""
        return sum(source.rows_skipped for source in self.sources)

    @property
    def rows_dropped(self) -> int:
        """Rows read that have nothing to learn."""
        return sum(source.rows_dropped for source in self.sources)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        totals = {
            "rows_read": self.rows_read,
            "rows_skipped": self.rows_skipped,
            "rows_dropped": self.rows_dropped,
        }
        return {**totals, **asdict(self)}

    def summary(self) -> list[str]:
        """Return what to print when a run starts: counts, then warnings."""
        if self.streamed:
            lines = [
                f"data: streamed; the first {self.documents:,} documents are "
                f"{self.tokens:,} tokens in {self.rows_train:,} rows, {self.supervised:,} learned"
            ]
        else:
            share = self.supervised / self.tokens if self.tokens else 0.0
            lines = [
                f"data: {self.rows_train:,} rows to train on, {self.rows_validation:,} held out; "
                f"{self.tokens:,} tokens, {self.supervised:,} learned ({share:.0%})",
                f"      {self.rows_read:,} read, {self.rows_skipped:,} skipped, "
                f"{self.rows_dropped:,} dropped, {self.truncated_share:.1%} truncated at "
                f"{self.max_length:,}; median {self.median:,.0f}, longest {self.longest:,} tokens"
                + (f"; rows {self.efficiency:.1%} full" if self.packed else ""),
            ]
        return lines + [f"warning: {warning}" for warning in self.warnings]
