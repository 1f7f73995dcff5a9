"""`temper evaluate` with a judge, human labels, contamination and a report, in one command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.results import read_results
from temper.cli import main
from tests.factories import make_tiny_model, write_jsonl
from tests.fake_llm_server import serving

_QUESTIONS = [
    f"Which of the seven wonders is number {n} in the list of Antipater?" for n in range(6)
]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "quiz.jsonl", [{"q": text} for text in _QUESTIONS])
    path = tmp_path / "suite.yaml"
    judge = {"kind": "openai", "url": "http://127.0.0.1:9/v1", "model": "judge-1"}
    score = {"kind": "judge", "mode": "pairwise", "rubric": "Be right.", "judge": judge}
    task = {
        "name": "answers", "kind": "generation", "data": "quiz.jsonl", "max_new_tokens": 4,
        "prompt": "Question: {{q}}\nAnswer:", "scores": [score],
    }  # fmt: skip
    gates = [{"metric": "answers.win_rate", "lower_bound_at_least": 0.5}]
    path.write_text(yaml.safe_dump({"suite": "whole", "tasks": [task], "gates": gates}))
    return path


def _with(suite: Path, **keys: Any) -> None:
    document = yaml.safe_load(suite.read_text())
    score = document["tasks"][0]["scores"][0]
    score["judge"] |= keys.pop("judge", {})
    score |= keys
    suite.write_text(yaml.safe_dump(document))


def _run_of(folder: Path, model: str) -> Path:
    """Return the model of a run that was trained on one of the questions."""
    run = folder / "run"
    shutil.copytree(model, run / "model")
    write_jsonl(folder / "train.jsonl", [{"text": f"Q: {_QUESTIONS[2]} A: the temple"}])
    job = {
        "name": "qa",
        "model": {"source": "tiny"},
        "data": {"train": [str(folder / "train.jsonl")]},
        "method": {"kind": "sft"},
    }
    (run / "job.yaml").write_text(json.dumps(job))
    (run / "manifest.json").write_text("{}")
    return run / "model"


def test_a_win_rate_with_everything_around_it(
    suite: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = suite.parent
    other = make_tiny_model(folder / "other", num_hidden_layers=1)
    with serving() as server:
        # Prefers what is shown first: each pair is a tie, and the gate is not passed.
        server.reply = lambda messages: (200, "[[A]]")
        _with(suite, judge={"url": server.url})
        model = _run_of(folder, tiny)
        arguments = ["evaluate", str(model), str(suite), "--against", str(other)]
        assert main([*arguments, "--out", str(folder / "out")]) == 4
        assert len(server.calls) == 12
    task = read_results(folder / "out").tasks["answers"]
    assert (task.metrics["win_rate"].value, task.metrics["win_rate"].items) == (0.5, 6)
    assert task.facts["judge"]["flips"]["share"] == 1.0
    assert task.against == {}
    assert task.contaminated == 1
    assert task.metrics["win_rate"].clean == 0.5
    lines = (folder / "out/items/answers.jsonl").read_text().splitlines()
    items = [json.loads(line) for line in lines]
    assert [item["contaminated"] for item in items] == [n == 2 for n in range(6)]
    assert items[0]["detail"]["verdicts"][0]["model_first"] == "model"
    page = (folder / "out/report.html").read_text()
    assert "answers.win_rate lower bound at least 0.5" in page
    assert "100.0% of 6 (95 % interval" in page
    out, err = capsys.readouterr()
    assert "searched 1 training rows for items of the suite: 1 of 6 are in them" in out
    assert "in the training data: 1 items; without: win_rate 0.5" in out
    assert "answers.win_rate lower bound at least 0.5: the value is 0.5 on 6 items" in err


def test_a_comparison_without_another_model_is_refused_before_it_is_paid_for(
    suite: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _with(suite, human_labels="people.csv")
    assert main(["evaluate", tiny, str(suite)]) == 2
    err = capsys.readouterr().err
    assert "tasks.0.scores.0: answers are compared with those of another model" in err
    assert "tasks.0.scores.0.human_labels: there is no such file (got people.csv)" in err
