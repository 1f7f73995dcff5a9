"""Interface of the scores of generated answers.

A score is built from a task's `scores:` section by `build_score`. It maps the answered items of a
task to metrics whose statistics are in the order of the items.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from evaluation.config.scores import ScoreSection
from evaluation.metric import TaskMetric, mean_metric

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class AnsweredItem:
    """Item of a task with the answers of a model.

    Attributes:
        id: Identity of the item in its task.
        fields: Columns of its row.
        prompt: Prompt as the model received it.
        targets: Correct answers, each of which counts; empty if the task has no target.
        answers: Answers, several if the task samples more than one.
    """

    id: str
    fields: Mapping[str, Any]
    prompt: str
    targets: tuple[str, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class ScoreContext:
    """Resources that a score may use.

    Attributes:
        device: Device of a model that scores.
        folder: Folder of the evaluation, which holds the record of what was spent.
        cache: Folder of the replies that evaluations share.
        max_cost_usd: Limit for the cost of calls; None for no limit.
        model: The evaluated model as the user wrote it, to warn of a judge of its own family.
        other_answers: Answers of the model that it is compared with, by id of the item; None
            without one.
    """

    device: torch.device
    folder: Path
    cache: Path
    max_cost_usd: float | None = None
    model: str = ""
    other_answers: Mapping[str, Sequence[str]] | None = None


@dataclass(frozen=True)
class ScoreOutcome:
    """Metrics and explanations that a score computes.

    Attributes:
        metrics: The metrics, in the order of the items.
        details: What explains the score of each item, for the report; empty if nothing does.
        unscored: Why an item was not scored, by its number.
        facts: Findings about all items, such as a judge's flip rate.
    """

    metrics: tuple[TaskMetric, ...]
    details: tuple[dict[str, Any], ...] = ()
    unscored: dict[int, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class Score(Protocol):
    """Interface of a score."""

    def __init__(self, section: Any, context: ScoreContext) -> None:
        """Prepare the score; raises if it cannot be computed here."""

    def score(self, items: Sequence[AnsweredItem]) -> ScoreOutcome:
        """Return the metrics of the items.

        Raises:
            DataError: An item lacks what the score needs.
        """


def build_score(section: ScoreSection, context: ScoreContext) -> Score:
    """Return the score that a task's section describes.

    Raises:
        TemperError: It cannot be computed on this machine.
    """
    module, _, name = section.impl.partition(":")
    score: Score = getattr(importlib.import_module(module), name)(section, context)
    return score


def metric_name(section: ScoreSection, name: str) -> str:
    """Return the name of a metric in the results, with the section's prefix."""
    return name if section.name is None else f"{section.name}_{name}"


def per_item_outcome(
    section: ScoreSection,
    name: str,
    values: Sequence[float],
    details: Sequence[dict[str, Any]] = (),
) -> ScoreOutcome:
    """Return the outcome of a score with one value per item.

    Args:
        section: Section of the score.
        name: Name of its metric.
        values: Value of each item.
        details: What explains each value.
    """
    metric = mean_metric(metric_name(section, name), np.asarray(values, dtype=np.float64))
    return ScoreOutcome((metric,), tuple(details))
