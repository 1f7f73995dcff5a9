"""Overfitting and small sets are said in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.report.run_folders import JOB, measured, step, write_run
from training.config.job import Job
from training.config.load import parse_job
from training.data.sample_size import sample_size_warnings
from training.report.overfitting import overfitting
from training.report.run_data import read_run_data
from training.report.warnings import overfitting_warnings


def test_a_loss_that_rises_again() -> None:
    sentence = overfitting([0, 10, 20, 30], [4.0, 3.0, 3.2, 3.5])
    assert sentence is not None
    assert "from 3 at step 10 to 3.5 at step 30: overfitting" in sentence
    assert "set train.keep: best" in sentence


def test_the_best_weights_were_kept() -> None:
    sentence = overfitting([0, 10, 20], [4.0, 3.0, 3.5], kept_step=10)
    assert sentence is not None
    assert sentence.endswith("The weights of step 10 were kept.")


def test_worse_from_the_start() -> None:
    sentence = overfitting([0, 10, 20], [3.0, 3.5, 4.0])
    assert sentence is not None
    assert "from the start" in sentence


@pytest.mark.parametrize(
    "losses",
    [[4.0, 3.0, 2.0], [4.0, 3.0, 3.02], [4.0, 5.0], [4.0, float("nan"), 3.0], [0.0, 0.0, 1.0]],
    ids=["falls", "noise", "two points", "not finite", "no loss"],
)
def test_no_overfitting(losses: list[float]) -> None:
    assert overfitting(range(len(losses)), losses) is None


@pytest.mark.parametrize(("kind", "warned"), [("sft", True), ("dpo", False)])
def test_the_report_says_it(tmp_path: Path, kind: str, warned: bool) -> None:
    """DPO's held-out loss may rise while pairs are told apart better."""
    rows = [*(step(n, 4.0 - n / 10) for n in range(1, 21)), {"step": 10, "eval_loss": 2.5}]
    run = write_run(
        tmp_path,
        job=JOB.replace("kind: sft", f"kind: {kind}"),
        rows=rows,
        evaluation={"before": measured(3.0), "after": measured(3.4)},
    )
    warnings = list(overfitting_warnings(read_run_data(run)))
    assert bool(warnings) == warned
    if warned:
        assert "from 2.5 at step 10 to 3.4 at step 20" in warnings[0]


def _job(**sections: Any) -> Job:
    job = parse_job(
        {
            "name": "small",
            "model": {"source": "some/model"},
            "data": {"train": "rows.jsonl"},
            "method": {"kind": "sft"},
            **sections,
        },
        "job.yaml",
    )
    assert isinstance(job, Job)
    return job


@pytest.mark.parametrize(
    ("sections", "documents", "held_out", "words"),
    [
        ({}, 999, 50, ["few for full fine-tuning"]),
        ({}, 1_000, 50, []),
        ({"adapter": {"kind": "lora"}}, 99, 0, ["few even for an adapter"]),
        ({"adapter": {"kind": "lora"}}, 100, 0, []),
        ({"adapter": {"kind": "lora", "r": 64}}, 9_999, 0, ["adapter.r 64 is high"]),
        ({"adapter": {"kind": "lora", "r": 64}}, 10_000, 0, []),
        ({"adapter": {"kind": "lora"}}, 500, 19, ["held-out rows are few"]),
        ({"method": {"kind": "pretrain"}}, 5, 1, []),
    ],
)
def test_small_sets(
    sections: dict[str, Any], documents: int, held_out: int, words: list[str]
) -> None:
    warnings = list(sample_size_warnings(_job(**sections), documents=documents, held_out=held_out))
    assert len(warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, warnings, strict=True))
