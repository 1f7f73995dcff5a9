"""Construction of the data report of a run, from a mixture or from the first window of a stream."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from training.config.job import Job
from training.data.mixing.group_split import GroupCounts
from training.data.readers.ingest import DROPPED, SKIPPED, Ingested
from training.data.report import DataReport, SourceReport
from training.data.sample_size import sample_size_warnings
from training.data.storage.source_stream import SourceStream
from training.data.storage.stream import StreamTable
from training.data.storage.table import RowTable
from training.data.tokenization.domain_terms import measure_terms
from training.data.tokenization.mask_preview import RowPreview, preview_row, render_text
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.data.tokenization.token_rows import IGNORE
from training.data.warnings import (
    label_warnings,
    markup_warnings,
    plain_text_warnings,
    row_warnings,
    unread_column_warnings,
)

_PREVIEWED_ROWS = 4


class ReportBuilder:
    """Builder of data reports.

    Args:
        job: The run.
        rows: Row tokenizer of the run.
        warnings: Warnings that arose before, such as that of an unusable cache folder.

    Attributes:
        warnings: Warnings that stand first in each report.
    """

    def __init__(self, job: Job, rows: RowTokenizer, warnings: Sequence[str]):
        self._job = job
        self._data = job.data
        self._rows = rows
        self.warnings = tuple(warnings)

    def of_mixture(
        self,
        table: RowTable,
        held_out: RowTable | None,
        about: dict[str, Any],
        ingested: Sequence[tuple[Ingested, str]],
    ) -> DataReport:
        """Return the report of a mixture.

        Args:
            table: Training rows.
            held_out: Held-out rows.
            about: Statistics that the mixture recorded.
            ingested: Tokenized sources in the order in which they were read, each with its role.
        """
        data = self._data
        tokens = about["trained"]
        sources = tuple(
            _source_report(source, role, tokens.get(str(number), 0), data.validation.group_column)
            for number, (source, role) in enumerate(ingested)
        )
        kept = sum(source.rows_kept for source in sources)
        truncated = sum(source.rows_truncated for source in sources)
        width = data.max_length if data.packing else about["train"]["longest"]
        reasons: Counter[str] = Counter()
        for source, _ in ingested:
            reasons.update(source.stats.reasons)
        report = DataReport(
            sources=sources,
            rows_train=len(table),
            rows_validation=len(held_out) if held_out else 0,
            documents=about["documents"],
            tokens=table.num_tokens,
            supervised=table.num_supervised,
            max_length=data.max_length,
            longest=about["longest"],
            median=about["median"],
            truncated_share=truncated / kept if kept else 0.0,
            packed=data.packing,
            efficiency=table.num_tokens / (len(table) * width),
            dropped_reasons=dict(reasons),
            digest=table.digest,
            template=self._rows.template.name if self._rows.template else "",
            mask_preview=self._preview(table),
            terms=measure_terms(data.terms, self._rows.encoder),
            repeated=about["repeated"],
            leaked=about["leaked"],
            groups=_group_counts(about.get("groups")),
        )
        by_group = report.groups.warnings() if report.groups else []
        general = row_warnings(report, replay_rounds=about["replay_rounds"])
        labels = label_warnings(table.metadata_values) if self._rows.want == "unpaired" else ()
        texts = plain_text_warnings(sources) if self._rows.want == "dialogue" else ()
        unread = (*markup_warnings(sources), *unread_column_warnings(sources))
        few = sample_size_warnings(
            self._job, documents=about["documents"], held_out=report.rows_validation
        )
        warnings = (*self.warnings, *general, *by_group, *labels, *texts, *unread, *few)
        return replace(report, warnings=warnings)

    def of_stream(
        self,
        table: StreamTable,
        window: Sequence[dict[str, Any]],
        streams: Sequence[SourceStream],
        held_out: RowTable | None,
    ) -> DataReport:
        """Return the report of a stream's first window; the rest has not been read.

        Args:
            table: The stream.
            window: Rows of its first window.
            streams: Sources of the stream.
            held_out: Held-out rows.
        """
        lengths = [length for row in window for length in row["seq_lengths"]]
        tokens = sum(lengths)
        width = self._data.max_length if self._data.packing else max(lengths)
        kept = sum(counts.rows_kept for counts in table.counts)
        truncated = sum(counts.rows_truncated for counts in table.counts)
        report = DataReport(
            sources=tuple(
                SourceReport(
                    source=stream.located.source.source,
                    role="train",
                    shapes=stream.reader.shapes,
                    **counts.to_dict(),
                    columns_unused=dict(sorted(stream.reader.unused_rows.copy().items())),
                )
                for stream, counts in zip(streams, table.counts, strict=False)
            ),
            rows_train=len(window),
            rows_validation=len(held_out) if held_out else 0,
            documents=len(lengths),
            tokens=tokens,
            supervised=sum(label != IGNORE for row in window for label in row["labels"]),
            max_length=self._data.max_length,
            longest=max(lengths),
            median=float(np.median(lengths)),
            truncated_share=truncated / kept if kept else 0.0,
            packed=self._data.packing,
            efficiency=tokens / (len(window) * width),
            dropped_reasons={},
            digest=table.digest,
            template=self._rows.template.name if self._rows.template else "",
            mask_preview=self._preview(window),
            terms=measure_terms(self._data.terms, self._rows.encoder),
            streamed=True,
        )
        warnings = [
            *self.warnings,
            *row_warnings(report, replay_rounds=1),
            *markup_warnings(report.sources),
            *unread_column_warnings(report.sources),
        ]
        return replace(report, warnings=tuple(warnings))

    def _preview(self, table: RowTable | Sequence[dict[str, Any]]) -> tuple[RowPreview, ...]:
        """Return previews of the first rows: both sides of a pair, one document of a packed row."""
        suffixes = (" (chosen)", " (rejected)") if self._rows.want == "preference" else ("",)
        previews = []
        for index in range(min(_PREVIEWED_ROWS, len(table))):
            row = table[index]
            stop = 0
            for suffix, length in zip(suffixes, row["seq_lengths"], strict=False):
                start, stop = stop, stop + length
                ids, labels = row["input_ids"][start:stop], row["labels"][start:stop]
                name = f"{row['ids'][0]}{suffix}"
                previews.append(preview_row(name, ids, labels, self._rows.encoder))
        return tuple(previews)


def _group_counts(about: dict[str, Any] | None) -> GroupCounts | None:
    if about is None:
        return None
    return GroupCounts(**{**about, "sources_without": tuple(about["sources_without"])})


def _source_report(
    ingested: Ingested, role: str, tokens_trained: int, group_column: str | None
) -> SourceReport:
    stats = ingested.stats
    return SourceReport(
        source=ingested.source.source,
        role=role,
        shapes=stats.shapes,
        **stats.counts.to_dict(),
        columns_unused={
            name: rows
            for name, rows in stats.unused.items()
            if role != "train" or name != group_column
        },
        tokens_trained=tokens_trained,
    )


def save_report(report: DataReport, run_dir: Path, ingested: Sequence[Ingested]) -> None:
    """Write the report, the mask preview and the lists of dropped and skipped rows.

    Args:
        report: The report.
        run_dir: The run folder.
        ingested: Tokenized sources, whose lists are concatenated.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report.to_json(), indent=1, ensure_ascii=False)
    (run_dir / "data.json").write_text(text + "\n", encoding="utf-8")
    (run_dir / "mask_preview.txt").write_text(render_text(report.mask_preview), encoding="utf-8")
    for name in (DROPPED, SKIPPED):
        # A stream has already started its lists with the first window.
        with (run_dir / name).open("ab" if report.streamed else "wb") as stream:
            for source in ingested:
                stream.write((source.folder / name).read_bytes())
