"""Rows that hold items of a benchmark, and would make its result too good."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field

from preparation.rows import PreparedRow
from preparation.steps.decontaminate.items import BenchmarkItem, read_items
from preparation.steps.decontaminate.numbers import has_numbers, numbers
from preparation.steps.step import Examination, FilterSection, Rule
from preparation.words import words
from training.config.locations import existing_path
from training.config.types import Texts
from training.data.contamination.answers import holds_answer
from training.data.contamination.edits import PASSAGE_LENGTHS
from training.data.contamination.passages import passages
from training.data.readers.formats import kind_of
from validation.problem import Problem

_PARAGRAPHS = re.compile(r"\n\s*\n")
_MIN_CHARACTERS = 40
"""Shorter texts are too alike to be compared by similarity."""
_MAX_RATIO = 4
"""A paragraph longer than the longest question by this factor is not compared by similarity."""


class DecontaminateStep(FilterSection):
    """Finds rows that hold an item of a benchmark: copied, edited or rephrased."""

    step: Literal["decontaminate"]
    against: Texts
    """File or files with the items of benchmarks, of every shape that training reads."""
    similarity: Annotated[float, Field(gt=0, le=1.9)] | Literal["none"] = 1.11
    """Least similarity of a rephrased item: that of the words (up to 1) plus 0.9 times the overlap
    of the numbers, and 0.15 more or less for the names. `none` finds copies and light edits only.
    The default is the highest that finds 99 % of the word problems on which it was chosen."""

    def found_from(self, folder: Path) -> Self:
        """Return the section with benchmark files found in a folder, as sources are."""
        found = tuple(
            str(folder / file) if existing_path(file) is None and (folder / file).exists() else file
            for file in self.against
        )
        return self.model_copy(update={"against": found})

    def problems(self, key: str) -> Iterable[Problem]:
        """Yield each file that does not exist or has no format of rows."""
        for index, file in enumerate(self.against):
            if not Path(file).is_file():
                fix = (
                    "Give the path of a file with the items of the benchmark, from the working "
                    "directory or from the folder of the job"
                )
                yield Problem(f"{key}.against.{index}", "the file does not exist", file, fix)
            elif kind_of(Path(file)) is None:
                fix = "Give JSON Lines, JSON, CSV or Parquet"
                yield Problem(f"{key}.against.{index}", "not a format of rows", file, fix)

    def files(self) -> Mapping[str, Path]:
        """Return the benchmark files, whose content the result depends on."""
        return {file: Path(file) for file in self.against}

    def with_files(self, names: Mapping[str, str]) -> Self:
        """Return the section with its benchmark files named otherwise."""
        return self.model_copy(update={"against": tuple(names[file] for file in self.against)})

    def build(self) -> Rule:
        """Return the rule, with the items indexed."""
        return Decontamination(
            list(read_items(self.against)), None if self.similarity == "none" else self.similarity
        )


class Decontamination(Rule):
    """Rule that compares rows with items.

    Args:
        items: Items, such as those of a benchmark or rows that are held out.
        similarity: Least similarity of a rephrased item; None for copies only.
    """

    def __init__(self, items: Sequence[BenchmarkItem], similarity: float | None):
        from preparation.steps.decontaminate.copies import CopyIndex
        from preparation.steps.decontaminate.similarity import SimilarityIndex
        from training.data.contamination.edits import EditIndex

        self._items = items
        self._copies = CopyIndex(items)
        self._edits = EditIndex([words(item.question) for item in items])
        self._asking = [
            number for number, item in enumerate(items) if len(item.question) >= _MIN_CHARACTERS
        ]
        questions = [items[number].question for number in self._asking]
        self._similarity = similarity
        self._similar = SimilarityIndex(questions) if questions and similarity else None
        self._longest = _MAX_RATIO * max(map(len, questions), default=0)

    def examine(self, row: PreparedRow) -> Examination:
        """Examine a row."""
        return self.examine_all([row])[0]

    def examine_all(self, rows: Sequence[PreparedRow]) -> list[Examination]:
        """Examine several rows; their passages are compared with the items at once."""
        results: list[Examination | None] = [self._copy(row) for row in rows]
        passages = [
            (number, passage)
            for number, row in enumerate(rows)
            if results[number] is None and self._similar is not None
            for passage in self._passages(row)
        ]
        if passages and self._similar is not None:
            matches = self._similar.nearest([passage for _, passage in passages])
            for (number, _), match in sorted(
                zip(passages, matches, strict=True), key=lambda pair: pair[1].score
            ):
                if self._similarity is not None and match.score >= self._similarity:
                    item = self._items[self._asking[match.item]]
                    results[number] = _contaminated("benchmark_rephrased", item, match.score)
        return [result or Examination() for result in results]

    def _copy(self, row: PreparedRow) -> Examination | None:
        for part in row.content():
            number = self._copies.find(part.text)
            if number is not None:
                return _contaminated("benchmark_copy", self._items[number], None)
        return self._edited(row)

    def _edited(self, row: PreparedRow) -> Examination | None:
        """Return a short item of which a passage is an edited copy, if the copy is sure."""
        texts = [part.text for part in row.content()]
        matches = [
            match
            for text in texts
            for passage in passages(text, words, PASSAGE_LENGTHS)
            for match in self._edits.find(passage)
        ]
        own = frozenset(numbers("\n".join(texts))) if matches else frozenset()
        for match in sorted(matches, key=lambda match: (-match.score, match.item)):
            item = self._items[match.item]
            if not has_numbers(own, frozenset(numbers(item.question))):
                continue
            if match.sure or holds_answer(list(map(words, texts)), words(item.answer)):
                return _contaminated("benchmark_edited", item, match.score)
        return None

    def _passages(self, row: PreparedRow) -> list[str]:
        """Return the texts of a row and their paragraphs, as far as they may be a question."""
        texts = {
            passage.strip(): None
            for part in row.content()
            for passage in (part.text, *_PARAGRAPHS.split(part.text))
        }
        return [text for text in texts if _MIN_CHARACTERS <= len(text) <= self._longest]


def _contaminated(reason: str, item: BenchmarkItem, score: float | None) -> Examination:
    tags: dict[str, str | float] = {"benchmark_item": item.id}
    if score is not None:
        tags["benchmark_similarity"] = round(score, 3)
    return Examination(reasons=(reason,), tags=tags)
