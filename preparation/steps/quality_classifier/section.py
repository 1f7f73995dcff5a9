"""Section of the step `quality_classifier`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from preparation.steps.step import FactTable, Rule, TrainedSection
from training.config.locations import existing_path
from training.config.types import Texts
from training.data.readers.formats import kind_of
from validation.problem import Problem

REPORTED_BELOW = 0.5


class QualityClassifierStep(TrainedSection):
    """Scores rows from 0 (like the bad examples) to 1 (like the good ones)."""

    step: Literal["quality_classifier"]
    good: Texts
    """File or files with good examples, of every shape that training reads."""
    bad: Texts
    """File or files with bad examples."""
    texts: Literal["all", "answers"] = "all"
    """`answers` compares what an assistant says (never a rejected answer), `all` every text of a
    row. Rows without such a text have no score and are kept."""
    drop_below: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Score below which rows are rejected. Without it all rows are kept, and those below 0.5 are
    counted, with examples."""

    @property
    def action(self) -> str:
        """Return `drop` if rows are rejected, else `report`."""
        return "report" if self.drop_below is None else "drop"

    def found_from(self, folder: Path) -> Self:
        """Return the section with example files found in a folder, as sources are."""

        def found(files: Iterable[str]) -> tuple[str, ...]:
            return tuple(
                str(folder / file)
                if existing_path(file) is None and (folder / file).exists()
                else file
                for file in files
            )

        return self.model_copy(update={"good": found(self.good), "bad": found(self.bad)})

    def problems(self, key: str) -> Iterable[Problem]:
        """Yield each file that does not exist, has no format of rows, or is on both sides."""
        for side, files in (("good", self.good), ("bad", self.bad)):
            for index, file in enumerate(files):
                where = f"{key}.{side}.{index}"
                if not Path(file).is_file():
                    fix = (
                        "Give the path of a file with examples, from the working directory or from "
                        "the folder of the job"
                    )
                    yield Problem(where, "the file does not exist", file, fix)
                elif kind_of(Path(file)) is None:
                    yield Problem(
                        where, "not a format of rows", file, "Give JSON Lines, JSON, CSV or Parquet"
                    )
        for file in sorted({*self.good} & {*self.bad}):
            yield Problem(f"{key}.bad", "the file is also in good", file, "Name it on one side")

    def files(self) -> Mapping[str, Path]:
        """Return the files with examples, whose content the result depends on."""
        return {file: Path(file) for file in (*self.good, *self.bad)}

    def with_files(self, names: Mapping[str, str]) -> Self:
        """Return the section with its files named otherwise."""
        sides = {"good": self.good, "bad": self.bad}
        return self.model_copy(
            update={side: tuple(names[file] for file in files) for side, files in sides.items()}
        )

    def train(self, folder: Any) -> None:
        """Train the classifier and write it into the folder of the preparation.

        Raises:
            DataError: The examples cannot be used.
        """
        from preparation.steps.quality_classifier.training import train, write_classifier

        write_classifier(folder, train(self))

    def build(self) -> Rule:
        """Return the rule, with a classifier that is trained now: for an estimate of the costs."""
        from preparation.steps.quality_classifier.rule import QualityScores
        from preparation.steps.quality_classifier.training import train

        return QualityScores(self, train(self))

    def build_from(self, folder: Any) -> Rule:
        """Return the rule, with the classifier that `train` has written."""
        from preparation.steps.quality_classifier.rule import QualityScores
        from preparation.steps.quality_classifier.training import read_classifier

        return QualityScores(self, read_classifier(folder))

    def trained_facts(self, folder: Any) -> Mapping[str, Any]:
        """Return what training has measured."""
        from preparation.steps.quality_classifier.training import read_classifier

        return read_classifier(folder).facts

    def facts(self, totals: Mapping[str, Any], hide_values: bool) -> Iterable[FactTable]:
        """Return tables of the classifier's accuracy, and of the scores of the rows."""
        from preparation.steps.quality_classifier.tables import tables

        return tables(totals)
