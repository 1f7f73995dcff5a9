"""Data report: rows read, skipped, dropped and kept of each source, tokens and packing."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from training.data.mixing.group_split import GroupCounts
from training.data.tokenization.domain_terms import Terms
from training.data.tokenization.mask_preview import RowPreview
from training.data.tokenization.outcome_counts import OutcomeCounts


@dataclass(kw_only=True)
class SourceReport(OutcomeCounts):
    """Report on one source: what became of its rows, and where they came from.

    Attributes:
        source: Source as the job names it.
        role: train, validation or replay.
        shapes: Detected shapes of its rows.
        columns_unused: Number of rows by column that was not read, or key of messages:
            `messages[].KEY`.
        tokens_trained: Tokens of the source in one epoch, including repetitions.
    """

    source: str
    role: str
    shapes: tuple[str, ...]
    columns_unused: dict[str, int] = field(default_factory=dict)
    tokens_trained: int = 0


@dataclass(frozen=True)
class DataReport:
    """Report on the data of a run.

    Attributes:
        sources: Report on each source.
        rows_train: Training rows (packed rows if packing).
        rows_validation: Held-out rows.
        documents: Documents in the training rows.
        tokens: Tokens in the training rows, without padding.
        supervised: Supervised tokens in the training rows.
        max_length: Maximum tokens of a row.
        longest: Longest document, in tokens.
        median: Median length of a document, in tokens.
        truncated_share: Share of kept source rows whose end was cut off.
        packed: Whether rows hold several documents.
        efficiency: Share of tokens in a batch that are not padding (for unpacked rows, with every
            row padded to the longest).
        dropped_reasons: Number of dropped rows by reason.
        digest: Digest of the training rows.
        template: Name of the chat template; empty if none is used.
        warnings: Warnings to read before training.
        mask_preview: A few decoded rows.
        repeated: Training rows that duplicate another one, token for token.
        leaked: Held-out rows that are also training rows.
        terms: Tokenization of the domain's terms.
        groups: Counts of a split by group; None for another split.
        streamed: Whether rows are read during training; numbers are then of the first window.
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
    groups: GroupCounts | None = None
    streamed: bool = False

    @property
    def rows_read(self) -> int:
        """Rows read from all sources."""
        return sum(source.rows_read for source in self.sources)

    @property
    def rows_skipped(self) -> int:
        """Rows that could not be read."""
        return sum(source.rows_skipped for source in self.sources)

    @property
    def rows_dropped(self) -> int:
        """Rows without anything to train on."""
        return sum(source.rows_dropped for source in self.sources)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        totals = {
            "rows_read": self.rows_read,
            "rows_skipped": self.rows_skipped,
            "rows_dropped": self.rows_dropped,
        }
        return {**totals, **asdict(self)}

    def summary(self) -> list[str]:
        """Return the lines to print when a run starts: counts, then warnings."""
        if self.streamed:
            lines = [
                f"data: streamed; the first {self.documents:,} documents are "
                f"{self.tokens:,} tokens in {self.rows_train:,} rows, {self.supervised:,} learned",
                *self._split_lines(),
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
            lines += self._split_lines()
            if self.groups is not None:
                lines.append(self.groups.line())
        return lines + [f"warning: {warning}" for warning in self.warnings]

    def _split_lines(self) -> list[str]:
        """Return the line that counts conversations that were split at turns, if there are any."""
        split = sum(source.rows_split for source in self.sources)
        if not split:
            return []
        parts = sum(source.parts for source in self.sources)
        dropped = sum(source.parts_dropped for source in self.sources)
        also = f", {dropped:,} parts dropped (see dropped.jsonl)" if dropped else ""
        return [f"      {split:,} long conversations split at turns into {parts:,} rows{also}"]
