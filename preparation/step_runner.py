"""Application of steps to rows, in batches, with an account of each row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from preparation.ledger import Ledger
from preparation.rows import PreparedRow
from preparation.steps.step import Examination, Measurement, Rule, StepSection, Transformation

_BATCH_ROWS = 64


@dataclass(frozen=True)
class RowRecords:
    """Records of findings and rejected rows of one unit.

    Attributes:
        findings: Row id, step, kind, text, first character, and character after the last one.
        rejected: Row id, step and reason.
    """

    findings: list[dict[str, Any]]
    rejected: list[dict[str, Any]]


class StepRunner:
    """Runs the steps of a pass on the rows of a unit.

    Args:
        sections: Sections of the steps, in order.
        ledger: Account of the unit.
        records: Records of the unit.
        folder: datatrove's `DataFolder` of the preparation; None to try the steps without one.
    """

    def __init__(
        self,
        sections: Sequence[StepSection],
        ledger: Ledger,
        records: RowRecords,
        folder: Any = None,
    ):
        self._steps = [
            (section, section.build() if folder is None else section.build_from(folder))
            for section in sections
        ]
        self._ledger = ledger
        self._records = records

    def run(self, rows: Iterable[PreparedRow]) -> Iterator[PreparedRow]:
        """Yield the rows that pass all steps."""
        rows = iter(rows)
        while batch := list(islice(rows, _BATCH_ROWS)):
            for section, step in self._steps:
                if isinstance(step, Transformation):
                    batch = self._transform(section, step, batch)
                elif isinstance(step, Measurement):
                    for row in batch:
                        step.add(row)
                else:
                    batch = self._examine(section, step, batch)
            yield from batch
        for section, step in self._steps:
            if isinstance(step, Measurement):
                self._ledger.measured[section.name] = step.to_json()
            elif isinstance(step, Rule) and (measured := step.measured()):
                self._ledger.measured[section.name] = measured

    def _transform(
        self, section: StepSection, step: Transformation, batch: list[PreparedRow]
    ) -> list[PreparedRow]:
        made = [row for given in batch for row in step.transform(given)]
        self._ledger.rows_made[section.name] += len(made) - len(batch)
        return made

    def _examine(
        self, section: StepSection, rule: Rule, batch: list[PreparedRow]
    ) -> list[PreparedRow]:
        kept = []
        for row, examination in zip(batch, rule.examine_all(batch), strict=True):
            result = self._apply(section, row, examination)
            if result is not None:
                kept.append(result)
        return kept

    def _apply(
        self, section: StepSection, row: PreparedRow, examination: Examination
    ) -> PreparedRow | None:
        """Return the row as the step leaves it; None if the step rejects it."""
        name = section.name
        tagged = row.with_tags(examination.tags)
        for finding in examination.findings:
            self._ledger.findings[name][finding.kind] += 1
            self._records.findings.append({"row": row.id, "step": name, **finding._asdict()})
        drops = getattr(section, "action", None) == "drop"
        self._ledger.examine(name, tagged, examination.reasons[: 1 if drops else None])
        if examination.reasons and drops:
            reason = examination.reasons[0]
            self._ledger.reject(name, reason, row.source, tagged, findings=examination.findings)
            self._records.rejected.append({"row": row.id, "step": name, "reason": reason})
            return None
        for reason in examination.reasons:
            self._ledger.report(name, reason, tagged, examination.findings)
        if examination.texts is None:
            return tagged
        self._ledger.changed[name] += 1
        return tagged.with_texts(examination.texts)
