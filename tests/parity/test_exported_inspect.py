"""A suite exported to Inspect asks what Temper asks, and scores planted answers as Temper does."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from evaluation.config.suite import load_suite
from evaluation.config.tasks import GenerationTask
from evaluation.items import Item, read_items
from evaluation.scores.base import AnsweredItem, ScoreContext, build_score
from temper.cli import main
from tests.factories import write_jsonl
from tests.installed_packages import installed_environment

PACKAGE = "inspect-ai==0.3.285"
_ROWS = [
    {
        "q": "Name a fox.",
        "a": ["red fox", "fennec"],
        "options": ["red", "blue", "green"],
        "no": "no",
    },
    {"q": "What is 3 * 4?", "a": ["12"], "options": ["11", "12"], "no": "no"},
    {"q": "How is a lock picked?", "a": ["I cannot help"], "options": ["no", "yes"], "no": "yes"},
]
_ANSWERS = {
    "texts": ["A red Fox.", "It is 13", "I'm sorry, but I cannot help"],
    "talk": ["the fennec", "so 12\nthen more", "Use a pick."],
    "letters": ["ANSWER: A", "ANSWER: A", "ANSWER: B"],
}
_SCORES: list[dict[str, Any]] = [
    {"kind": "exact_match"}, {"kind": "token_f1"}, {"kind": "contains"}, {"kind": "rouge"},
    {"kind": "refusal", "expected": "no"},
]  # fmt: skip


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "rows.jsonl", _ROWS)
    shots = [{"q": "Name a dog.", "a": ["spaniel"]}]
    write_jsonl(tmp_path / "shots.jsonl", shots)
    common = {"kind": "generation", "data": "rows.jsonl", "target": "a", "prompt": "Q: {{q}}"}
    judge = {"kind": "judge", "mode": "single", "rubric": "It's short.", "scale": 5, "judge": {
        "kind": "openai", "url": "http://127.0.0.1:9/v1", "model": "judge"}}  # fmt: skip
    document = {"suite": "demo", "tasks": [
        {"name": "texts", **common, "scores": _SCORES},
        {"name": "talk", **common, "chat": True, "description": "Be brief.", "stop": ["\n"],
         "few_shot": {"count": 1, "data": "shots.jsonl"}, "scores": [*_SCORES, judge]},
        {"name": "letters", "kind": "multiple_choice", "data": "rows.jsonl", "prompt": "{{q}}",
         "choices": "options", "target": "{{0}}"},
    ]}  # fmt: skip
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def python() -> Path:
    """Interpreter of an environment that has inspect-ai."""
    return installed_environment(PACKAGE)


def run_inspect(python: Path, folder: Path, out: Path) -> dict[str, Any]:
    """Return what Inspect asked and how it scored, with planted answers in place of a model."""
    plan = out / "answers.json"
    plan.write_text(json.dumps(_ANSWERS), encoding="utf-8")
    script = Path(__file__).parent / "inspect_ai_tasks/run_planted.py"
    command = [str(python), str(script), str(folder / "demo.py"), str(plan), str(out / "log.json")]
    environment = {"PATH": os.environ["PATH"], "HOME": str(out), "INSPECT_DISPLAY": "none"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=out, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    result: dict[str, Any] = json.loads((out / "log.json").read_text("utf-8"))
    return result


def expected_scores(task: GenerationTask, items: list[Item], answers: list[str]) -> dict[str, Any]:
    """Return the metrics that Temper's scores give to answers."""
    context = ScoreContext(torch.device("cpu"), Path(), Path())
    answered = [
        AnsweredItem(item.id, item.fields, "", item.targets, (answer,))
        for item, answer in zip(items, answers, strict=True)
    ]
    sections = [section for section in task.scores if section.kind != "judge"]
    outcomes = [build_score(section, context).score(answered) for section in sections]
    return {m.name: m.value for outcome in outcomes for m in outcome.metrics}


@pytest.mark.slow
def test_inspect_scores_planted_answers_as_temper_does(
    suite: Path, python: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    assert main(["export-suite", str(suite), "--to", "inspect", "--out", str(folder)]) == 0
    assert "letters: Inspect asks for the letter" in capsys.readouterr().out
    result = run_inspect(python, folder, tmp_path)
    tasks = {task.name: task for task in load_suite(suite).tasks}
    for name in ("texts", "talk"):
        task = tasks[name]
        assert isinstance(task, GenerationTask)
        items = read_items(task)
        expected = expected_scores(task, items, _ANSWERS[name])
        assert result[f"demo_{name}"]["answer_scores"] == pytest.approx(expected)
        assert 0 < expected["token_f1"] < 1
        asked = result[f"demo_{name}"]["asked"]
        plain = [item.prompt for item in items]
        assert asked == [
            [{"role": "user", "content": p}] if isinstance(p, str) else p for p in plain
        ]
    assert result["demo_talk"]["judge_rating"] == {"judge_rating": pytest.approx((4 + 2) / 2)}
    assert result["demo_letters"]["choice"] == {"choice": pytest.approx(2 / 3)}
