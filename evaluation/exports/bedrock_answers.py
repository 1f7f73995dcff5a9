"""Answers of an evaluation by Temper, which Bedrock judges in place of those of a model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evaluation.config.suite import Suite
from evaluation.config.tasks import GenerationTask
from evaluation.exports.base import Items
from evaluation.results import read_results
from evaluation.task_runner import prompt_text
from training.errors import RunError


@dataclass(frozen=True)
class RecordedAnswers:
    """Answers of one model.

    Attributes:
        source: Name of the model, as Bedrock accepts it.
        by_task: First answer to each item, by task and id; none if the item was not asked.
    """

    source: str
    by_task: Mapping[str, Mapping[str, str]]


def read_answers(folder: Path, suite: Suite, items: Items) -> RecordedAnswers:
    """Return the answers in the folder of an evaluation.

    Args:
        folder: The folder.
        suite: The suite.
        items: Items of each task.

    Raises:
        RunError: It holds no results, or results of other items.
    """
    results = read_results(folder)
    answers = {}
    for task in suite.tasks:
        if not isinstance(task, GenerationTask) or task.follow_ups is not None:
            continue
        path = folder / "items" / f"{task.name}.jsonl"
        lines = path.read_text("utf-8").split("\n") if path.is_file() else []
        rows = {row["id"]: row for row in map(json.loads, filter(None, lines))}
        for item in items[task.name]:
            if item.id not in rows or rows[item.id]["prompt"] != prompt_text(item.prompt):
                raise RunError(
                    f"--answers {folder} has no answer to item {item.id} of task {task.name} as "
                    "it is now. Evaluate the model on this suite first"
                )
        answers[task.name] = {
            name: row["answers"][0] for name, row in rows.items() if row["answers"]
        }
    return RecordedAnswers(_label(results.model.source), answers)


def _label(source: str) -> str:
    """Return the name of a model with the characters that Bedrock accepts."""
    return re.sub(r"[^a-zA-Z0-9._-]+", "-", source).strip("._-")[-256:].lstrip("._-") or "model"
