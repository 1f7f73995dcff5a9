"""Suite that the tests of exports share: every kind of task, and scores of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.factories import write_jsonl

JUDGE = {"kind": "bedrock", "region": "us-east-1", "model": "us.amazon.nova-pro-v1:0"}
_COMMON = {
    "kind": "generation", "data": "questions.jsonl", "prompt": "Q: {{q}}\nA:", "target": "a",
    "group": "topic", "max_new_tokens": 32, "stop": ["\n"],
}  # fmt: skip
_RATING = {
    "kind": "judge", "mode": "single", "scale": 5, "show_target": True, "judge": JUDGE,
    "rubric": "A good answer is correct and short.",
}  # fmt: skip
TASKS: dict[str, dict[str, Any]] = {
    "facts": {**_COMMON, "scores": [{"kind": "token_f1"}, {"kind": "exact_match"}]},
    "talk": {
        **_COMMON, "chat": True, "description": "Be brief.", "scores": [_RATING],
        "few_shot": {"count": 1, "data": "shots.jsonl"},
    },
    "choices": {
        "kind": "multiple_choice", "data": "questions.jsonl", "prompt": "{{q}}",
        "choices": "options", "target": "right",
    },
    "texts": {"kind": "perplexity", "data": "questions.jsonl", "text": "q"},
}  # fmt: skip
ROWS = [
    {
        "q": "Capital of Peru?",
        "a": "Lima",
        "topic": "places",
        "options": ["Lima", "Rome"],
        "right": 0,
    },
    {"q": "What is 3 * 4?", "a": "12", "topic": "sums", "options": ["11", "12"], "right": 1},
    {"q": "Größe von „x“?", "a": "klein", "topic": "places", "options": ["a", "b"], "right": 0},
]
SHOTS = [{"q": "Capital of Chile?", "a": "Santiago"}]


def write_suite(
    folder: Path, *names: str, rows: list[dict[str, Any]] | None = None, **changes: Any
) -> Path:
    """Write a suite of some of the tasks with its data.

    Args:
        folder: Folder of the files.
        names: Names of the tasks.
        rows: Items of every task.
        changes: Keys of every task to change.
    """
    write_jsonl(folder / "questions.jsonl", ROWS if rows is None else rows)
    write_jsonl(folder / "shots.jsonl", SHOTS)
    tasks = [{"name": name, **TASKS[name], **changes} for name in names]
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({"suite": "demo", "tasks": tasks}), encoding="utf-8")
    return path
