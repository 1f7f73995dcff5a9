"""Account of the rows of one unit in one pass: what was read, changed, rejected and written."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from preparation.examples import ExampleTexts
from preparation.report_groups import ReportGroups
from preparation.rows import PreparedRow
from preparation.steps.step import Finding

READ_STEP = "read"
"""Name of reading among the steps that reject rows."""
_EXAMPLES = 3
_GROUPING_TAGS = ("language", "dialect")
_LIMITING_TAGS = ("secret_rules", "web_rules")
"""Tags of rows that a step examined in part or not at all; the report names them."""


class Ledger:
    """Counts of one unit, which add up over units.

    Args:
        examples: Texts of examples.
        report_by: Names of `prepare.report.by`.

    Attributes:
        rows_read: Rows by source.
        rows_made: Rows that a step added (parts of a document) or removed, by step.
        rejected: Rows by step and reason.
        would_reject: Rows that a step with `action: report` would reject, by step and reason.
        affected: The same rows and the rejected ones, by step, reason, and source or language.
        findings: Findings by step and kind.
        changed: Rows by the step that changed them.
        written: Rows passed on.
        tags: Rows by language and the like.
        measured: What the measurement of a step counted: numbers in mappings.
        examples: The first rows of each step and reason: id and beginning of the text.
        groups: Rows by step, column and group of the report.
        columns: Records by column, if the report has groups.
    """

    def __init__(self, examples: ExampleTexts | None = None, report_by: Sequence[str] = ()) -> None:
        self._example_texts = examples or ExampleTexts()
        self._group_counts = ReportGroups(report_by, self._example_texts)
        self.groups = self._group_counts.counts
        self.columns: Counter[str] = Counter()
        self.rows_read: Counter[str] = Counter()
        self.rows_made: Counter[str] = Counter()
        self.rejected: dict[str, Counter[str]] = defaultdict(Counter)
        self.would_reject: dict[str, Counter[str]] = defaultdict(Counter)
        self.affected: dict[str, dict[str, Counter[str]]] = defaultdict(
            lambda: defaultdict(Counter)
        )
        self.findings: dict[str, Counter[str]] = defaultdict(Counter)
        self.changed: Counter[str] = Counter()
        self.written: Counter[str] = Counter()
        self.tags: Counter[str] = Counter()
        self.measured: dict[str, dict[str, Any]] = {}
        self.examples: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))

    def read(self, source: str, values: Mapping[str, Any], reason: str | None = None) -> None:
        """Count a record that was read, by the groups of the report.

        Args:
            source: Label of its source.
            values: Its values.
            reason: Reason if it is rejected.
        """
        if self._group_counts.by:
            self.columns.update(values.keys())
            reasons = () if reason is None else (reason,)
            self._group_counts.add_record(READ_STEP, values, source, reasons)

    def examine(self, step: str, row: PreparedRow, reasons: Sequence[str]) -> None:
        """Count a row that a step examined, by the groups of the report.

        Args:
            step: The step.
            row: The row.
            reasons: Reasons for which it is dropped, or would be.
        """
        self._group_counts.add(step, row, reasons)

    def reject(
        self,
        step: str,
        reason: str,
        source: str,
        row: PreparedRow | None = None,
        note: str = "",
        findings: tuple[Finding, ...] = (),
    ) -> None:
        """Count a row that is rejected.

        Args:
            step: Step that rejects it.
            reason: Reason in a fixed word.
            source: Label of its source.
            row: The row, if it could be read.
            note: Explanation of an example.
            findings: Spans to hide in the example.
        """
        self.rejected[step][reason] += 1
        self._note(step, reason, source, row, findings, note)

    def report(
        self,
        step: str,
        reason: str,
        row: PreparedRow,
        findings: tuple[Finding, ...] = (),
        note: str = "",
    ) -> None:
        """Count a row that a step would reject if its action were `drop`.

        Args:
            step: The step.
            reason: Reason in a fixed word.
            row: The row.
            findings: Spans to hide in the example.
            note: Explanation of an example.
        """
        self.would_reject[step][reason] += 1
        self._note(step, reason, row.source, row, findings, note)

    def _note(
        self,
        step: str,
        reason: str,
        source: str,
        row: PreparedRow | None,
        findings: tuple[Finding, ...],
        note: str,
    ) -> None:
        affected = self.affected[step][reason]
        affected[f"source: {source}"] += 1
        if row is None:
            return
        for tag in _GROUPING_TAGS:
            if tag in row.tags:
                affected[f"{tag}: {row.tags[tag]}"] += 1
        examples = self.examples[step][reason]
        if len(examples) < _EXAMPLES:
            examples.append(
                {"id": row.id, "text": self._example_texts.excerpt(row, findings), "note": note}
            )

    def write(self, row: PreparedRow) -> None:
        """Count a row that is passed on."""
        self.written[row.source] += 1
        for tag in (*_LIMITING_TAGS, *_GROUPING_TAGS):
            if tag in row.tags:
                self.tags[f"{tag}: {row.tags[tag]}"] += 1

    def check_balance(self) -> None:
        """Assert that every row that was read was rejected or passed on."""
        rejected = sum(sum(reasons.values()) for reasons in self.rejected.values())
        came = self.rows_read.total() + self.rows_made.total()
        assert came == rejected + self.written.total(), (
            f"{came} rows came, {rejected} were rejected and {self.written.total()} passed on"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the counts as plain values."""
        return {name: _plain(value) for name, value in vars(self).items() if name[0] != "_"}


def merge(total: Any, other: Any) -> Any:
    """Return two accounts as one: numbers are added, examples kept up to their limit."""
    if total is None:
        return other
    if isinstance(other, Mapping):
        keys = [*total, *(key for key in other if key not in total)]
        return {
            key: merge(total.get(key), other[key]) if key in other else total[key] for key in keys
        }
    if isinstance(other, list):
        return [*total, *other][:_EXAMPLES]
    return total + other


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
