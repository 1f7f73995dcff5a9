"""Section `prepare.report`: groups by which the report counts what each rule drops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from training.config.base import ConfigSection
from training.config.types import Texts
from validation.problem import Problem

ROW_SOURCE = "row_source"
"""Name of the source of a row, as in the shards."""
_LANGUAGE = "language"
_MAX_CHARACTERS = 80
"""Characters of a value; a longer one names no group."""


class GroupReport(ConfigSection):
    """Columns by which the report divides the rows."""

    by: Texts
    """Columns of the sources, such as a dialect. `row_source` is the source of a row, and
    `language` is what the step of that name found if no column has the name."""

    def problems(self) -> Iterable[Problem]:
        """Yield each column that is named twice."""
        for index, name in enumerate(self.by):
            if name in self.by[:index]:
                yield Problem(f"prepare.report.by.{index}", "the column is named twice", name)


def measured_groups(by: Iterable[str], steps: Iterable[str]) -> set[str]:
    """Return the names among `by` that need no column.

    Args:
        by: Names of `prepare.report.by`.
        steps: Names of the steps of the job.
    """
    measured = {ROW_SOURCE} | ({_LANGUAGE} if _LANGUAGE in steps else set())
    return measured.intersection(by)


def values_of(values: Mapping[str, Any], by: Sequence[str]) -> dict[str, str]:
    """Return the values of a record in the columns of the report, as text."""
    found = ((name, values.get(name)) for name in by)
    return {
        name: str(value)[:_MAX_CHARACTERS]
        for name, value in found
        if isinstance(value, str | int | float) and str(value).strip()
    }
