"""A suite exported to lm-eval 0.4.13 gives Temper's numbers there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.command import EvaluateOptions, run_evaluation
from evaluation.results import EvaluationResult, read_results
from temper.cli import main
from tests.factories import write_jsonl
from tests.parity.lm_eval.environment import lm_eval_environment
from tests.parity.lm_eval.model import make_parity_model

HERE = Path(__file__).parent / "lm_eval"
_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
_NAMES = {"acc": "accuracy", "acc_norm": "accuracy_norm"}
_GENERATION = {
    "kind": "generation", "data": "planted.jsonl", "prompt": "Q: {{question}}\nA:",
    "max_new_tokens": 24,
}  # fmt: skip
_CHAT = {
    **_GENERATION, "chat": True, "description": "Answer with {{ one }} word.",
    "target": "{{choices[0]}}", "few_shot": {"count": 2, "data": "examples.jsonl"},
}  # fmt: skip
_TASKS: list[dict[str, Any]] = [
    {"name": "plain", **_GENERATION, "stop": ["e"]},
    {"name": "unstopped", **_GENERATION},
    {"name": "chat", **_CHAT},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_parity_model(tmp_path_factory.mktemp("exported") / "model")
    config = folder / "tokenizer_config.json"
    settings = json.loads(config.read_text("utf-8")) | {"chat_template": _TEMPLATE}
    config.write_text(json.dumps(settings), encoding="utf-8")
    return folder


def evaluated(suite: Path, model: Path) -> EvaluationResult:
    out = suite.with_suffix("")
    run_evaluation(EvaluateOptions(str(model), suite, None, out, batch_size=5))
    return read_results(out)


def planted(row: dict[str, Any], number: int, answers: dict[str, list[str]]) -> dict[str, Any]:
    """Return a row with targets of which some equal the model's own answers."""
    for task, given in answers.items():
        answer = given[number]
        row[f"{task}_target"] = [answer, f"The {answer.upper()}.", "something else"][number % 3]
    return row


@pytest.fixture(scope="module")
def suite(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Suite whose generated answers are right for some items, each score at several values."""
    folder = tmp_path_factory.mktemp("suite")
    rows = [
        json.loads(line)
        for line in (HERE / "questions.jsonl").read_text("utf-8").split("\n")
        if line
    ]
    for number, row in enumerate(rows):  # of different lengths
        row["choices"] = [*row["choices"], f"choice {number}"][: 4 + number % 2]
    for name in ("texts.jsonl", "examples.jsonl"):
        (folder / name).write_bytes((HERE / name).read_bytes())
    write_jsonl(folder / "planted.jsonl", rows)
    plain = [
        task | {"target": "{{choices[0]}}", "scores": [{"kind": "token_f1"}]} for task in _TASKS
    ]
    first = folder / "first.yaml"
    first.write_text(yaml.safe_dump({"suite": "first", "tasks": plain}), encoding="utf-8")
    evaluated(first, model)
    answers = {
        task["name"]: [
            json.loads(line)["answers"][0]
            for line in (folder / f"first/items/{task['name']}.jsonl")
            .read_text("utf-8")
            .split("\n")
            if line
        ]
        for task in _TASKS
    }
    rows = [planted(row, number, answers) for number, row in enumerate(rows)]
    for number, row in enumerate(rows):
        longest = max(re.findall(r"\w+", answers["unstopped"][number]), key=len, default="none")
        row["label"] = [longest, "none"][number % 2]
    write_jsonl(folder / "planted.jsonl", rows)
    texts = [
        {"kind": "exact_match"}, {"kind": "token_f1"}, {"kind": "contains"}, {"kind": "rouge"},
        {"kind": "exact_match", "name": "exact", "normalize": "none"},
        {"kind": "exact_match", "name": "last", "answer_pattern": r"(\w+)\W*$"},
        {"kind": "bleu"}, {"kind": "chrf", "word_order": 2}, {"kind": "refusal", "expected": False},
    ]  # fmt: skip
    tasks = [task | {"target": f"{task['name']}_target", "scores": texts} for task in _TASKS]
    tasks[-1]["target"] = "{{chat_target if chat_target is defined else choices[0]}}"
    choice = {"kind": "multiple_choice", "data": "planted.jsonl", "target": "{{answer}}"}
    document = {"suite": "whole", "tasks": [
        *tasks,
        {"name": "labels", **_GENERATION, "target": "label",
         "scores": [{"kind": "classification"}]},
        {"name": "untargeted", **_GENERATION, "scores": [{"kind": "refusal", "expected": False}]},
        {"name": "few-shot", **choice, "prompt": "Q: {{question}}\nA:", "choices": "choices",
         "few_shot": {"count": 2, "data": "examples.jsonl"}, "description": "Geography {{x}}.\n"},
        {"name": "undelimited", **choice, "prompt": "{{question}} ", "choices": "choices",
         "target_delimiter": ""},
        {"name": "texts", "kind": "perplexity", "data": "texts.jsonl", "text": "text"},
    ]}  # fmt: skip
    path = folder / "whole.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@pytest.mark.slow
def test_lm_eval_gives_the_same_numbers_on_an_exported_suite(
    suite: Path, model: Path, tmp_path: Path
) -> None:
    ours = evaluated(suite, model)
    folder, out = tmp_path / "folder", tmp_path / "result.json"
    assert main(["export-suite", str(suite), "--to", "lm-eval", "--out", str(folder)]) == 0
    command = [sys.executable, "-m", "tests.parity.lm_eval.run_exported", str(model), str(folder)]
    done = subprocess.run(
        [*command, str(out), "whole", "whole.chat"],
        env=lm_eval_environment(tmp_path),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = json.loads(out.read_text("utf-8"))
    assert set(theirs) == {f"whole_{name}" for name in ours.tasks}
    compared = Counter[str]()
    for name, result in theirs.items():
        task = ours.tasks[name.removeprefix("whole_")]
        for metric, value in result["metrics"].items():
            got = task.metrics[_NAMES.get(metric, metric)].value
            assert got == pytest.approx(value, rel=1e-6, abs=1e-6), f"{name}: {metric}"
            compared[metric] += 0 < value < 1 or value > 1
    extracted = {"last_exact_match", "refusal_rate", "refusal_accuracy", "accuracy", "mcc"}
    constant = [metric for metric, count in compared.items() if not count]
    assert set(constant) <= extracted, "a metric that is 0 or 1 everywhere proves little"
    expected = {name for task in ours.tasks.values() for name in task.metrics}
    reported = {_NAMES.get(metric, metric) for metric in compared}
    assert expected - reported == {"token_perplexity"}
