"""Pipeline files: what is wrong in one is said at once, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.load import load_pipeline
from tests.run_commands import ROOT
from training.errors import JobError

SUITE = "suite: s\ntasks: [{name: docs, kind: perplexity, data: rows.jsonl, text: text}]\n"


def write(folder: Path, steps: dict[str, Any]) -> Path:
    (folder / "job.yaml").write_text("name: a\n")
    (folder / "suite.yaml").write_text(SUITE)
    (folder / "rows.jsonl").write_text('{"text": "a"}\n')
    file = folder / "pipeline.yaml"
    file.write_text(yaml.safe_dump({"name": "p", "steps": steps}, sort_keys=False))
    return file


def problems(folder: Path, steps: dict[str, Any]) -> str:
    with pytest.raises(JobError) as caught:
        load_pipeline(write(folder, steps))
    return str(caught.value)


def test_the_shipped_pipelines_are_valid_and_ordered() -> None:
    files = sorted((ROOT / "pipelines").glob("*.yaml"))
    assert files
    for file in files:
        loaded = load_pipeline(file)
        position = {name: index for index, name in enumerate(loaded.order)}
        for name, step in loaded.steps.items():
            assert all(position[used] < position[name] for used, _ in step.uses().values())


def test_steps_run_after_what_they_use_whatever_the_order_of_the_file(tmp_path: Path) -> None:
    steps = {
        "register": {"kind": "register", "model": "train", "gate": "better"},
        "better": {"kind": "gate", "evaluation": "evaluate", "better": ["docs.bits_per_byte"]},
        "evaluate": {"kind": "evaluate", "model": "train", "suite": "suite.yaml"},
        "train": {"kind": "train", "job": "job.yaml", "data": {"data.train": "prepare"}},
        "prepare": {"kind": "prepare", "job": "job.yaml"},
    }
    order = load_pipeline(write(tmp_path, steps)).order
    assert order == ("prepare", "train", "evaluate", "better", "register")


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    text = problems(
        tmp_path,
        {
            "prepare": {"kind": "prepare", "job": "missing.yaml"},
            "train": {"kind": "train", "job": "job.yaml", "data": {"data.train": "prepar"}},
            "evaluate": {"kind": "evaluate", "model": "prepare", "suite": "suite.yaml"},
            "again": {"kind": "evaluate", "model": "prepare", "suite": "suite.yaml"},
            "better": {
                "kind": "gate",
                "evaluation": "evaluate",
                "better": ["docs.accuracy", "code.pass"],
                "limits": [{"metric": "docs.f1", "at_least": 1}],
            },
            "empty": {"kind": "gate", "evaluation": "evaluate"},
            "register": {"kind": "register", "model": "train", "gate": "evaluate"},
            "deploy": {"kind": "deploy", "version": "register"},
        },
    )
    for expected in (
        "steps.prepare.job: there is no such file (got missing.yaml)",
        "steps.train.data.data.train: there is no such step (got prepar). Did you mean prepare?",
        "steps.evaluate.model: needs a model, and the step gives data (got prepare)",
        "steps.again: evaluate evaluates the same model on the same suite",
        "steps.better.better.0: the task has no such metric (got docs.accuracy). Metrics of docs:",
        "steps.better.better.1: there is no such task (got code.pass). Tasks of the suite: docs",
        "steps.better.limits.0.metric: the task has no such metric (got docs.f1)",
        "steps.empty: the gate decides nothing",
        "steps.register.gate.0: needs a decision, and the step gives an evaluation",
        "steps.deploy.to: it is not said where the version is served",
    ):
        assert expected in text


def test_a_cycle_is_shown_as_a_path(tmp_path: Path) -> None:
    text = problems(
        tmp_path,
        {
            "one": {"kind": "train", "job": "job.yaml", "model": {"model.source": "two"}},
            "two": {"kind": "train", "job": "job.yaml", "model": {"model.source": "one"}},
        },
    )
    assert "steps: steps wait for each other (got one -> two -> one)" in text or (
        "steps: steps wait for each other (got two -> one -> two)" in text
    )


def test_a_comparison_without_another_model_cannot_be_better(tmp_path: Path) -> None:
    text = problems(
        tmp_path,
        {
            "train": {"kind": "train", "job": "job.yaml"},
            "evaluate": {
                "kind": "evaluate",
                "model": "train",
                "suite": "suite.yaml",
                "against": "none",
            },
            "better": {"kind": "gate", "evaluation": "evaluate", "better": ["docs.bits_per_byte"]},
        },
    )
    assert "steps.better.better: the evaluation compares with no other model" in text


def test_unknown_keys_and_kinds_are_named(tmp_path: Path) -> None:
    text = problems(
        tmp_path,
        {"train": {"kind": "trian", "job": "job.yaml"}, "b": {"kind": "prepare", "jobs": "x"}},
    )
    assert "steps.train.kind: no such kind (got trian). Did you mean train?" in text
    assert "steps.b.jobs: no such key (got 'x'). Did you mean job?" in text
