"""Instructions followed: strict and loose accuracy of prompts and of instructions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.config.scores import Instructions
from evaluation.metric import TaskMetric, mean_metric, ratio
from evaluation.scores.base import AnsweredItem, ScoreContext, ScoreOutcome, metric_name
from evaluation.scores.instructions.rules import RULES, follows
from training.errors import DataError


class InstructionsScore:
    """Accuracy of IFEval.

    The loose accuracy also accepts an answer without its first line, its last line, or asterisks.

    Args:
        section: Section of the score.
        context: Not used.
    """

    def __init__(self, section: Instructions, context: ScoreContext):
        self._section = section

    def score(self, items: Sequence[AnsweredItem]) -> ScoreOutcome:
        """Return the four accuracies of IFEval.

        Raises:
            DataError: An instruction of an item is not known, or its arguments do not fit.
        """
        metrics: list[TaskMetric] = []
        details: list[dict[str, Any]] = [{} for _ in items]
        for mode in ("strict", "loose"):
            followed = [self._followed(item, loose=mode == "loose") for item in items]
            counts = np.array([[sum(row), len(row)] for row in followed], dtype=np.float64)
            whole = np.array([float(all(row)) for row in followed])
            instructions = TaskMetric(
                metric_name(self._section, f"instruction_{mode}"),
                "corpus",
                counts.reshape(-1, 2),
                ratio,
            )
            name = metric_name(self._section, f"prompt_{mode}")
            metrics += [mean_metric(name, whole), instructions]
            for detail, item, row in zip(details, items, followed, strict=True):
                ids = [name for name, _ in self._instructions(item)]
                detail[mode] = dict(zip(ids * len(item.answers), row, strict=True))
        return ScoreOutcome(tuple(metrics), tuple(details))

    def _followed(self, item: AnsweredItem, *, loose: bool) -> list[bool]:
        """Return whether each answer follows each instruction of the item.

        Raises:
            DataError: The arguments of an instruction do not fit.
        """
        followed = []
        for answer in item.answers:
            variants = _variants(answer) if loose else [answer]
            for instruction, arguments in self._instructions(item):
                try:
                    results = [follows(instruction, text, arguments) for text in variants]
                except (TypeError, ValueError, AttributeError) as error:
                    raise DataError(
                        f"score instructions: item {item.id}, instruction {instruction}: its "
                        f"arguments {json.dumps(arguments)} do not fit: {error}"
                    ) from None
                followed.append(any(results))
        return followed

    def _instructions(self, item: AnsweredItem) -> list[tuple[str, dict[str, Any]]]:
        """Return id and arguments of each instruction of an item.

        Raises:
            DataError: A column is missing, or an instruction is unknown.
        """
        ids, arguments = (
            _decoded(item.fields.get(column))
            for column in (self._section.ids, self._section.arguments)
        )
        if not isinstance(ids, list) or not ids:
            raise DataError(
                f"score instructions: item {item.id} has no list of instructions in the column "
                f"{self._section.ids!r}. It has {', '.join(sorted(item.fields))}"
            )
        if not isinstance(arguments, list) or len(arguments) != len(ids):
            raise DataError(
                f"score instructions: item {item.id} needs one dictionary per instruction in the "
                f"column {self._section.arguments!r}"
            )
        if unknown := [name for name in ids if name not in RULES]:
            raise DataError(
                f"score instructions: item {item.id} has unknown instructions "
                f"{', '.join(map(str, unknown))}. Known are {', '.join(RULES)}"
            )
        return [(name, dict(a or {})) for name, a in zip(ids, arguments, strict=True)]


def _decoded(value: Any) -> Any:
    """Return a column's value; in a CSV file, lists are JSON text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return list(value) if isinstance(value, Sequence) and not isinstance(value, Mapping) else value


def _variants(answer: str) -> list[str]:
    """Return the eight texts of which a loose check accepts any."""
    lines = answer.split("\n")
    slices = [lines, lines[1:], lines[:-1], lines[1:-1]]
    texts = [answer, *("\n".join(part).strip() for part in slices[1:])]
    return [*texts, *(text.replace("*", "") for text in texts)]
