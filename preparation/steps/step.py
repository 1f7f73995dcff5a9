"""Base classes of a step: its section of the job, and the rule that examines rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from preparation.rows import PreparedRow, Scalar
from training.config.base import ConfigSection
from validation.problem import Problem


class Finding(NamedTuple):
    """Span of a text that a rule found; the text itself is never kept.

    Attributes:
        kind: Kind of the finding, such as `email`.
        part: Index of the text in `PreparedRow.parts()`.
        start: First character.
        end: Character after the last one.
    """

    kind: str
    part: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Examination:
    """Result of a rule for one row.

    Attributes:
        reasons: Reasons to reject the row, as fixed words of the rule (`too_few_words`), so that
            they can be counted. Empty if the row passes.
        findings: Spans that the rule found.
        tags: Measured values that are written with the row.
        texts: Texts in place of those of `PreparedRow.parts()`; None leaves the row as it is.
    """

    reasons: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    tags: Mapping[str, Scalar] = field(default_factory=dict)
    texts: tuple[str, ...] | None = None


class Rule(ABC):
    """Rule that examines rows one by one, or several at once where this is faster.

    A rule has no state that depends on the rows before, so that its result does not depend on how
    rows are divided among workers. It loads models and word lists in its constructor, which runs
    once per worker.
    """

    @abstractmethod
    def examine(self, row: PreparedRow) -> Examination:
        """Examine a row."""

    def examine_all(self, rows: Sequence[PreparedRow]) -> list[Examination]:
        """Examine several rows; equal to examining each."""
        return [self.examine(row) for row in rows]

    def measured(self) -> dict[str, Any]:
        """Return what was counted for the report: numbers in mappings, which add up over units."""
        return {}


class Transformation(ABC):
    """Step that makes one row into several, such as parts of a long document."""

    @abstractmethod
    def transform(self, row: PreparedRow) -> Iterable[PreparedRow]:
        """Yield the rows that take the place of a row."""


class Measurement(ABC):
    """Step that measures the rows of a unit and leaves them as they are."""

    @abstractmethod
    def add(self, row: PreparedRow) -> None:
        """Measure a row."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return what was measured: numbers in mappings, which add up over units."""


class FactTable(NamedTuple):
    """Table of facts about the data, for the report and the card.

    Attributes:
        title: Title of the table.
        columns: Titles of the columns.
        rows: Values by row.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Scalar, ...], ...]


class StepSection(ConfigSection, ABC):
    """Section of a step in `prepare.steps`, discriminated by its key `step`.

    Subclasses add `step: Literal["name"]` and their settings. They import nothing heavy at module
    level: a job file is checked in a fraction of a second.
    """

    @property
    def name(self) -> str:
        """Name of the step, as in the job file."""
        return str(getattr(self, "step"))  # noqa: B009 (subclasses declare it, each its own literal)

    def problems(self, key: str) -> Iterable[Problem]:
        """Yield what is wrong with the settings beyond their types, such as a missing file.

        Args:
            key: Key of the section in the job, such as `prepare.steps.2`.
        """
        return ()

    def found_from(self, folder: Path) -> Self:
        """Return the section with files that exist in a folder, and not here, found there."""
        return self

    def files(self) -> Mapping[str, Path]:
        """Return the files whose content the result depends on, by their value in the job."""
        return {}

    def with_files(self, names: Mapping[str, str]) -> Self:
        """Return the section with its files named otherwise.

        Args:
            names: New name of each value in `files()`.
        """
        return self

    def variables(self) -> Iterable[str]:
        """Return names of the environment variables that the step reads."""
        return ()

    def trained_facts(self, folder: Any) -> Mapping[str, Any]:
        """Return what the step measured in a pass of its own, from the folder of a preparation."""
        return {}

    def facts(self, totals: Mapping[str, Any], hide_values: bool) -> Iterable[FactTable]:
        """Return tables for the report.

        Args:
            totals: What the step counted in all units, added up, and `trained_facts`.
            hide_values: Leave out words of the data: a step of the job finds values that no report
                may show.
        """
        return ()

    def finder(self) -> Rule | None:
        """Return the rule whose findings no report may show, changing nothing; None without."""
        return None

    @abstractmethod
    def build(self) -> Rule | Transformation | Measurement:
        """Return what the step does, with its models loaded."""

    def build_from(self, folder: Any) -> Rule | Transformation | Measurement:
        """Return what the step does in a preparation; its folder holds what the step trained."""
        return self.build()


class TrainedSection(StepSection):
    """Section of a step with a model that is trained in a pass of its own, before all others."""

    @abstractmethod
    def train(self, folder: Any) -> None:
        """Train the model, and write it into the folder of a preparation."""


class FilterSection(StepSection):
    """Section of a step that can reject rows."""

    action: Literal["report", "drop"] = "report"
    """`report` shows what would be rejected and keeps it; `drop` rejects it."""
