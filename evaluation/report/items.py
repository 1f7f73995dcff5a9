"""Items of an evaluation, in the form that the page's script shows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_LONGEST = 6000
"""Characters of a text on the page; the files hold all of it."""
_MOST = 4000
"""Items of a task on the page."""


@dataclass(frozen=True)
class TaskItems:
    """Items of a task on the page.

    Attributes:
        items: The items, those that failed first.
        left_out: Number of items that are only in the file.
        metrics: Names of the metrics that have a value per item, with whether higher is better.
    """

    items: list[dict[str, Any]] = field(default_factory=list)
    left_out: int = 0
    metrics: dict[str, bool] = field(default_factory=dict)


def read_task_items(folder: Path, task: str, higher_is_better: dict[str, bool]) -> TaskItems:
    """Return the items of a task, with those of the other model.

    Args:
        folder: Folder of the evaluation.
        task: Name of the task.
        higher_is_better: Direction of each metric of the task.
    """
    own = list(_read(folder / "items" / f"{task}.jsonl"))
    others = {item["id"]: item for item in _read(folder / "against" / "items" / f"{task}.jsonl")}
    # A score that only one of the models has, such as a win rate, is shown as well.
    names = {name for item in own for name in item["scores"]}
    metrics = {name: better for name, better in higher_is_better.items() if name in names}
    items = [_item(item, others.get(item["id"])) for item in own]
    items.sort(key=lambda item: _rank(item, metrics))
    return TaskItems(items[:_MOST], max(0, len(items) - _MOST), metrics)


def _read(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        with path.open(encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines if line.strip())


def _item(item: dict[str, Any], other: dict[str, Any] | None) -> dict[str, Any]:
    if other is not None and other["prompt"] != item["prompt"]:
        # The other model's own earlier answers are part of its conversation.
        conversation = _shortened(other["prompt"])
        other = {**other, "detail": {"conversation": conversation, **other["detail"]}}
    return {
        "id": item["id"],
        "group": item["group"],
        "prompt": _shortened(item["prompt"]),
        "tokens": item["prompt_tokens"],
        "target": _shortened(item["target"]),
        "skipped": item["skipped"],
        "contaminated": item["contaminated"],
        "model": _answers(item),
        "other": None if other is None else {**_answers(other), "skipped": other["skipped"]},
    }


def _answers(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "answers": [_shortened(answer) for answer in item["answers"]],
        "scores": item["scores"],
        "detail": _finite(item["detail"]),
    }


def _finite(value: Any) -> Any:
    """Return a value in which numbers that JSON does not have are texts."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list) else value


def _shortened(text: str) -> str:
    more = len(text) - _LONGEST
    return text if more <= 0 else f"{text[:_LONGEST]} … ({more:,} more characters in the file)"


def _rank(item: dict[str, Any], metrics: dict[str, bool]) -> tuple[int, float]:
    """Order skipped items first, then losses against the other model, then low scores."""
    if item["skipped"] is not None:
        return 0, 0.0
    scores = item["model"]["scores"]
    name = next((name for name in metrics if name in scores), None)
    if name is None:
        return 2, 0.0
    sign = 1 if metrics[name] else -1
    theirs = (item["other"] or {"scores": {}})["scores"].get(name)
    lost = theirs is not None and sign * (scores[name] - theirs) < 0
    return (1 if lost else 2), sign * scores[name]
