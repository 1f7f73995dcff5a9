"""Last pass: treat duplicates, run the remaining steps, split and write the shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datatrove.pipeline.base import PipelineStep

from preparation.config.duplicates import DuplicatesStep
from preparation.config.split import Split
from preparation.duplicates.candidates import verifying_tasks
from preparation.duplicates.groups import JoinedGroups
from preparation.duplicates.verification import verified_rows
from preparation.examples import ExampleTexts
from preparation.ledger import Ledger
from preparation.passes.building import write_json, write_unit
from preparation.row_conversion import content_hash
from preparation.row_files import read_rows
from preparation.rows import PreparedRow
from preparation.shards import ShardWriter
from preparation.splitting import Splitter
from preparation.step_runner import RowRecords, StepRunner
from preparation.steps.step import StepSection

NAME = "write"
SPLITS = "splits"
_STEP = "duplicates"
_NOT_IN_A_CLUSTER: Mapping[str, Any] = {"kind": None, "group": "", "of": None}


class WriteShards(PipelineStep):
    """Pass over the stored rows.

    Args:
        folder: datatrove's `DataFolder` of the preparation.
        duplicates: Section of the step `duplicates`, if the job has it.
        sections: Steps after it.
        split: Section `prepare.split`.
        examples: Texts of examples.
        report_by: Names of `prepare.report.by`.
    """

    name = "Write shards"
    type = "Temper"

    def __init__(
        self,
        folder: Any,
        duplicates: DuplicatesStep | None,
        sections: Sequence[StepSection],
        split: Split,
        examples: ExampleTexts,
        report_by: Sequence[str] = (),
    ):
        super().__init__()
        self.folder = folder
        self.duplicates = duplicates
        self.sections = sections
        self.split = split
        self.examples = examples
        self.report_by = report_by

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Write the shards of a unit.

        Args:
            data: Not used: the pass reads the rows itself.
            rank: Number of the task.
            world_size: Number of all tasks.
        """
        ledger, records = Ledger(self.examples, self.report_by), RowRecords([], [])
        joined = JoinedGroups.read(self.folder) if self.duplicates else JoinedGroups.none()
        splitter, sides = Splitter(self.split, joined), Counter[str]()
        groups: dict[str, str] = {}
        rows = self._read(rank, world_size, ledger, records, groups)
        steps = StepRunner(self.sections, ledger, records, self.folder)
        with ShardWriter(self.folder, rank) as shards:
            for row in steps.run(rows):
                origin = row.id.partition("#")[0]
                key = (row, content_hash(row), groups.get(origin, ""))
                side = splitter.side(*key)
                shards.write(side, row, splitter.group(*key))
                ledger.write(row)
                sides[side] += 1
        write_unit(self.folder, NAME, rank, ledger, records)
        write_json(self.folder, f"{SPLITS}/{rank:05d}.json", sides)

    def _read(
        self, rank: int, units: int, ledger: Ledger, records: RowRecords, groups: dict[str, str]
    ) -> Iterator[PreparedRow]:
        """Yield the stored rows that are no duplicates, or with a tag that says so."""
        verified: Mapping[int, Mapping[str, Any]] = {}
        if self.duplicates is not None:
            verified = verified_rows(self.folder, rank, units, verifying_tasks(units))
        for index, stored in enumerate(read_rows(self.folder, rank)):
            row = stored.row
            ledger.rows_read[row.source] += 1
            found = verified.get(index, _NOT_IN_A_CLUSTER)
            kind = found["kind"]
            if found["group"]:
                groups[row.id] = found["group"]
            if self.duplicates is not None:
                ledger.examine(_STEP, row, (kind,) if kind else ())
            if kind is None:
                yield row
            elif self.duplicates is not None and self.duplicates.action == "drop":
                ledger.reject(_STEP, kind, row.source, row, _note(found))
                records.rejected.append(
                    {"row": row.id, "step": _STEP, "reason": kind}
                    | {key: found[key] for key in ("of", "similarity")}
                )
            else:
                ledger.report(_STEP, kind, row, note=_note(found))
                yield row.with_tags({"duplicate_of": found["of"]})


def _note(duplicate: Mapping[str, Any]) -> str:
    """Return the note of an example: the row that it duplicates."""
    if duplicate["kind"] == "near":
        return f"similarity {duplicate['similarity']:.2f} to {duplicate['of']}"
    return f"equal to {duplicate['of']}"
