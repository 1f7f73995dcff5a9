"""First pass: read a unit, run the steps before `duplicates`, and store the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from preparation.config.source import PreparedSource
from preparation.documents import UnreadableDocument
from preparation.examples import ExampleTexts
from preparation.ledger import READ_STEP, Ledger
from preparation.passes.building import write_unit
from preparation.row_conversion import RowConverter, content_hash
from preparation.row_files import RowFileWriter
from preparation.rows import PreparedRow
from preparation.step_runner import RowRecords, StepRunner
from preparation.steps.step import StepSection
from preparation.work_units import FileRange, WorkUnit, check_files
from training.data.readers.records import BadRecord, SourceRecord, hidden_values
from training.data.readers.sources import locate
from training.data.schema.rows import RowError
from training.errors import DataError

NAME = "examine"


class ExamineRows(PipelineStep):
    """Pass over the records of the sources.

    Args:
        folder: datatrove's `DataFolder` of the preparation.
        units: The units; the rank of a task is the index of its unit.
        sources: The sources as the job names them.
        labels: Label of each source.
        sections: Steps to run.
        examples: Texts of examples.
        report_by: Names of `prepare.report.by`.
    """

    name = "Examine rows"
    type = "Temper"

    def __init__(
        self,
        folder: Any,
        units: Sequence[WorkUnit],
        sources: Sequence[PreparedSource],
        labels: Sequence[str],
        sections: Sequence[StepSection],
        examples: ExampleTexts,
        report_by: Sequence[str] = (),
    ):
        super().__init__()
        self.folder = folder
        self.units = units
        self.sources = sources
        self.labels = labels
        self.sections = sections
        self.examples = examples
        self.report_by = report_by

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the rows that pass, with their text for signatures.

        Args:
            data: Not used: the pass reads the rows itself.
            rank: Number of the task.
            world_size: Number of all tasks.

        Raises:
            DataError: A file cannot be read, or it changed since the plan read it.
            OSError: A file cannot be opened, or the rows cannot be stored.
        """
        assert world_size == len(self.units), "a task is a unit"
        ledger, records = Ledger(self.examples, self.report_by), RowRecords([], [])
        rows = self._read(self.units[rank], ledger, records)
        passed = StepRunner(self.sections, ledger, records, self.folder).run(rows)
        hidden = hidden_values(self.examples.hide_values)
        try:
            with hidden, RowFileWriter(self.folder, rank) as writer:
                for row in passed:
                    writer.write(row, content_hash(row))
                    ledger.write(row)
                    yield Document("\n".join(part.text for part in row.content()), row.id)
        except (DataError, OSError):
            check_files([self.units[rank]])  # A change explains an error of its content.
            raise
        check_files([self.units[rank]])
        write_unit(self.folder, NAME, rank, ledger, records)

    def _read(self, unit: WorkUnit, ledger: Ledger, records: RowRecords) -> Iterator[PreparedRow]:
        converters: dict[int, RowConverter] = {}
        for part in unit.ranges:
            source = self.sources[part.source]
            label = self.labels[part.source]
            if part.source not in converters:
                converters[part.source] = RowConverter(source, label, self.report_by)
            converter = converters[part.source]
            for record in read_records(part, source):
                if source.limit is not None and ledger.rows_read[label] >= source.limit:
                    break
                ledger.rows_read[label] += 1
                row = _converted(converter, record)
                values = {} if isinstance(record, BadRecord) else record.values
                if isinstance(row, PreparedRow):
                    ledger.read(label, values)
                    yield row
                    continue
                reason = record.code if isinstance(record, UnreadableDocument) else "unreadable"
                ledger.read(label, values, reason)
                ledger.reject(READ_STEP, reason, label)
                records.rejected.append(
                    {"row": record.origin, "step": READ_STEP, "reason": reason, "detail": row}
                )


def read_records(part: FileRange, source: PreparedSource) -> Iterator[SourceRecord | BadRecord]:
    """Yield the records of a range of a file, or of a builtin source."""
    if part.path:
        yield from part.records()
        return
    for _, record in locate(source).records():
        yield record


def _converted(converter: RowConverter, record: SourceRecord | BadRecord) -> PreparedRow | str:
    """Return the row of a record, or why it cannot be read."""
    if isinstance(record, BadRecord):
        return record.reason
    try:
        row = converter.convert(record)
    except RowError as error:
        return str(error)
    return row if row.content() else "the row holds no text"
