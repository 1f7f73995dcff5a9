"""The plan of `evaluate.suite` counts what the evaluation then computes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.command import EvaluateOptions, run_evaluation
from evaluation.models import likelihoods, transformers_model
from planning import make_plan
from planning.hf_config import read_shape
from planning.suite_evaluation import read_suite_work
from temper.cli import main
from tests.factories import docstring_pairs, make_tiny_model, write_jsonl
from training.config import Job
from training.config.load import parse_job
from training.errors import JobError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("planned") / "model")


@pytest.fixture
def document(model: Path, tmp_path: Path) -> dict[str, Any]:
    pairs = docstring_pairs(40)
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    write_jsonl(tmp_path / "texts.jsonl", [{"text": pair["completion"] * 12} for pair in pairs[:9]])
    suite = {
        "suite": "planned",
        "tasks": [
            {
                "name": "choices", "kind": "multiple_choice", "data": "pairs.jsonl",
                "prompt": "{{prompt}}", "choices": ["{{completion}}", "It is a function of lists"],
                "target": "{{0}}",
            },
            {
                "name": "letters", "kind": "multiple_choice", "data": "pairs.jsonl",
                "prompt": "{{prompt}} {{completion}}", "choices": ["A", "B"], "target": "A",
            },
            {"name": "texts", "kind": "perplexity", "data": "texts.jsonl", "text": "text"},
            {
                "name": "answers", "kind": "generation",
                "data": {"path": "pairs.jsonl", "rows": 20},
                "prompt": "{{prompt}}", "target": "completion", "max_new_tokens": 8,
                "scores": [{"kind": "exact_match"}],
            },
        ],
    }  # fmt: skip
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    return {
        "name": "planned",
        "model": {"source": str(model)},
        "data": {"train": str(tmp_path / "pairs.jsonl"), "max_length": 64},
        "method": {"kind": "sft"},
        "train": {"max_steps": 2},
        "evaluate": {"suite": str(tmp_path / "suite.yaml")},
    }


def parsed(document: dict[str, Any]) -> Job:
    job = parse_job(document, "the test")
    assert isinstance(job, Job)
    return job


def test_counts_are_those_of_the_evaluation(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, prompts, steps = [], [], []
    logits, sample = likelihoods._logits, transformers_model.sample

    def counted_logits(model: Any, inputs: Sequence[list[int]], first: int) -> Any:
        rows.extend(map(len, inputs))
        return logits(model, inputs, first)

    def counted_sample(model: Any, ids: Sequence[list[int]], draws: Any, **options: Any) -> Any:
        prompts.extend(map(len, ids))
        steps.append(draws.shape[1])
        return sample(model, ids, draws, **options)

    monkeypatch.setattr(likelihoods, "_logits", counted_logits)
    monkeypatch.setattr(transformers_model, "sample", counted_sample)
    base, suite = document["model"]["source"], Path(document["evaluate"]["suite"])
    run_evaluation(EvaluateOptions(base, suite, base, tmp_path / "results"))
    job = parsed(document)
    work = read_suite_work(job, read_shape(job))
    assert work is not None
    assert (work.models, work.tasks, work.items) == (2, 4, 109)
    assert work.forward_tokens == pytest.approx(sum(rows) + sum(prompts), rel=0.1)
    assert work.rows == pytest.approx(len(rows) + len(prompts), rel=0.1)
    assert work.decoding_steps == sum(steps)
    assert work.new_tokens == 2 * 20 * 8


def test_a_plan_says_what_a_suite_adds(document: dict[str, Any]) -> None:
    plan = make_plan(parsed(document))
    without = make_plan(parsed({**document, "evaluate": {}}))
    assert without.suite == {}
    seconds = plan.document()["suite"]["seconds"]
    for bound in ("low", "high"):
        added = 3600 * (getattr(plan.hours, bound) - getattr(without.hours, bound))
        assert added == pytest.approx(seconds[bound], abs=0.1)
    assert 0 < seconds["low"] < seconds["high"] < 200


def test_a_model_from_scratch_is_evaluated_alone(document: dict[str, Any]) -> None:
    scratch = {
        "architecture": "llama", "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
        "vocab_size": 320, "max_position_embeddings": 256,
    }  # fmt: skip
    model = {"source": "scratch", "scratch": scratch}
    job = parsed({**document, "model": model, "method": {"kind": "sft"}})
    work = read_suite_work(job, read_shape(job))
    assert work is not None
    assert work.models == 1


def test_the_command_prints_the_suite_and_refuses_a_faulty_one(
    document: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(json.dumps(document))
    assert main(["plan", str(file)]) == 0
    assert "109 items on the trained model and the one before" in capsys.readouterr().out
    Path(document["evaluate"]["suite"]).write_text("suite: planned\ntasks: []\n")
    with pytest.raises(JobError, match="tasks"):
        make_plan(parsed(document))
    assert main(["plan", str(file)]) == 2
