"""Rows that each step examined and would drop, by the groups of `prepare.report.by`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from preparation.config.group_report import ROW_SOURCE, values_of
from preparation.examples import ExampleTexts
from preparation.rows import PreparedRow

NOT_STATED = "not stated"
"""Group of rows without a value."""
OTHER_VALUES = "other values"
_MAX_GROUPS = 1_000
"""Groups of a column in one unit; a column with more values divides rows into no groups."""
_MAX_GROUPS_WITH_EXAMPLES = 50
_EXAMPLES = 2
"""Examples of a reason and group in one unit."""


class ReportGroups:
    """Counts of one unit by step, column and group.

    Args:
        by: Names of `prepare.report.by`.
        texts: Texts of examples.

    Attributes:
        counts: By step, column and group: `rows` examined, `dropped` for any reason, and by
            reason `reasons` and `examples`.
    """

    def __init__(self, by: Sequence[str], texts: ExampleTexts):
        self.by = tuple(by)
        self._texts = texts
        self.counts: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}

    def add(self, step: str, row: PreparedRow, reasons: Sequence[str]) -> None:
        """Count a row that a step examined.

        Args:
            step: The step.
            row: The row.
            reasons: Reasons for which it is dropped, or would be.
        """
        for name in self.by:
            value = row.report_by.get(name)
            if value is None and name == ROW_SOURCE:
                value = row.source
            elif value is None and name in row.tags:
                value = str(row.tags[name])
            counts = self._count(step, name, value, reasons)
            if reasons and len(self.counts[step][name]) <= _MAX_GROUPS_WITH_EXAMPLES:
                self._add_examples(counts["examples"], row, reasons)

    def _add_examples(
        self, examples: dict[str, list[Any]], row: PreparedRow, reasons: Sequence[str]
    ) -> None:
        for reason in reasons:
            of_reason = examples.setdefault(reason, [])
            if len(of_reason) < _EXAMPLES:
                of_reason.append({"id": row.id, "text": self._texts.excerpt(row)})

    def add_record(
        self, step: str, values: Mapping[str, Any], source: str, reasons: Sequence[str]
    ) -> None:
        """Count a record that was read.

        Args:
            step: Name of reading.
            values: Its values; none if it cannot be parsed.
            source: Label of its source.
            reasons: Reasons for which it is rejected.
        """
        found = {ROW_SOURCE: source} | values_of(values, self.by) if self.by else {}
        for name in self.by:
            self._count(step, name, found.get(name), reasons)

    def _count(
        self, step: str, name: str, value: str | None, reasons: Sequence[str]
    ) -> dict[str, Any]:
        groups = self.counts.setdefault(step, {}).setdefault(name, {})
        group = NOT_STATED if value is None else value
        if group not in groups and len(groups) >= _MAX_GROUPS:
            group = OTHER_VALUES
        counts = groups.setdefault(group, {"rows": 0, "dropped": 0, "reasons": {}, "examples": {}})
        counts["rows"] += 1
        counts["dropped"] += bool(reasons)
        for reason in reasons:
            counts["reasons"][reason] = counts["reasons"].get(reason, 0) + 1
        return counts
