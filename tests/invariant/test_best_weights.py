"""The weights of the best evaluation are saved, also after a resume and under every sharding."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.factories import docstring_pairs, write_jsonl
from tests.run_commands import (
    Run,
    assert_identical,
    changed,
    leftovers,
    read_jsonl,
    train_by_command,
    train_here,
)
from tests.two_node import train_in_pair
from training.export.checksums import checksums_of, read_checksums


@pytest.fixture
def job(document: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A run that overfits: four rows, a high learning rate, and other rows held out."""
    rows = docstring_pairs(60)
    write_jsonl(tmp_path / "rows.jsonl", rows[:4])
    write_jsonl(tmp_path / "held-out.jsonl", rows[40:])
    job = changed(
        document,
        data={
            "train": str(tmp_path / "rows.jsonl"),
            "validation": str(tmp_path / "held-out.jsonl"),
        },
        train={
            "max_steps": 40,
            "global_batch_size": 4,
            "micro_batch_size": 2,
            "learning_rate": 1e-2,
            "lr_scheduler": "constant",
            "warmup": "0 steps",
            "early_stopping": {"patience": 3},
        },
        evaluate={"every": "2 steps"},
        checkpoint={"every": "2 steps", "keep": 50},
    )
    return job


def evaluations(run: Run) -> dict[int, float]:
    rows = read_jsonl(run.path / "metrics.jsonl")
    return {row["step"]: row["eval_loss"] for row in rows if "eval_loss" in row}


def best_of(run: Run) -> int:
    losses = evaluations(run)
    return min(losses, key=lambda step: losses[step])


def held_out_loss(model: Path, rows: Path) -> float:
    """Return the loss per answer token of a saved model, by Transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    total, tokens = 0.0, 0
    for row in read_jsonl(rows):
        prompt = tokenizer(row["prompt"] + "\n")["input_ids"]
        answer = tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
        ids = [*prompt, *answer, tokenizer.eos_token_id][:96]
        labels = [*([-100] * len(prompt)), *ids[len(prompt) :]]
        with torch.no_grad():
            logits = loaded(torch.tensor([ids])).logits[0, :-1]
        targets = torch.tensor(labels[1:])
        total += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
        tokens += int((targets != -100).sum())
    return total / tokens


def assert_best_is_saved(run: Run, rows: Path) -> None:
    losses, best = evaluations(run), best_of(run)
    last = max(losses)
    assert losses[last] > losses[best] + 0.05, "the run did not overfit"
    after = json.loads((run.path / "evaluation.json").read_text())["after"]
    assert after["kept"] == {"step": best, "last_step": last}
    assert after["validation"]["loss"] == pytest.approx(losses[best], rel=1e-5)
    assert f"step {best}" in (run.path / "model/README.md").read_text()
    assert not (run.path / "best").exists()
    assert leftovers(run) == []
    saved = held_out_loss(run.path / "model", rows)
    assert saved == pytest.approx(losses[best], rel=1e-3)


def test_a_run_that_overfits(
    job: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train_here(job, tmp_path / "run")
    assert f"overfitting. The weights of step {best_of(run)} were kept." in capsys.readouterr().out
    assert_best_is_saved(run, tmp_path / "held-out.jsonl")
    # The same run cut off at the best step has the same weights.
    short = changed(job, train={"max_steps": best_of(run), "keep": "last"})
    del short["train"]["early_stopping"]
    assert_identical(run, train_here(short, tmp_path / "short"))


@pytest.mark.slow
def test_without_early_stopping_on_request(
    job: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del job["train"]["early_stopping"]
    longer = {"max_steps": 21, "keep": "best"}
    run = train_here(changed(job, train=longer), tmp_path / "best")
    assert 21 in evaluations(run), "the last step is a candidate too"
    assert_best_is_saved(run, tmp_path / "held-out.jsonl")
    capsys.readouterr()
    last = train_here(changed(job, train={**longer, "keep": "last"}), tmp_path / "last")
    assert "set train.keep: best" in capsys.readouterr().out
    loss = json.loads((last.path / "evaluation.json").read_text())["after"]["validation"]["loss"]
    assert loss == pytest.approx(evaluations(run)[21], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("after_best", [True, False], ids=["after the best", "before the best"])
def test_a_resumed_run(job: dict[str, Any], tmp_path: Path, after_best: bool) -> None:
    whole = train_here(job, tmp_path / "whole")
    run = train_here(job, tmp_path / "run")
    cut = best_of(whole) + (2 if after_best else -2)
    for path in (run.path / "checkpoints").iterdir():
        if int(path.name.rpartition("-")[2]) > cut:
            shutil.rmtree(path)
    shutil.rmtree(run.path / "model")
    resumed = train_here(job, run.path)
    assert_identical(resumed, whole)
    assert_best_is_saved(resumed, tmp_path / "held-out.jsonl")


def test_an_adapter(job: dict[str, Any], tmp_path: Path) -> None:
    run = train_here({**job, "adapter": {"kind": "lora", "r": 4}}, tmp_path / "run")
    after = json.loads((run.path / "evaluation.json").read_text())["after"]
    assert after["validation"]["loss"] == pytest.approx(min(evaluations(run).values()), rel=1e-5)
    assert read_checksums(run.path / "model") == checksums_of(run.path / "model")


@pytest.mark.slow
def test_sharded_over_two_processes(job: dict[str, Any], tmp_path: Path) -> None:
    jobs = {f"zero-{zero}": changed(job, sharding={"zero": zero}) for zero in (0, 2, 3)}
    for run in train_in_pair(jobs, tmp_path / "pair").values():
        assert_best_is_saved(run, tmp_path / "held-out.jsonl")


@pytest.mark.slow
def test_sharded_over_two_processes_by_fsdp(job: dict[str, Any], tmp_path: Path) -> None:
    sharded = changed(job, resources={"processes": 2}, sharding={"fsdp": "full"})
    run = train_by_command(sharded, tmp_path)
    assert_best_is_saved(run, tmp_path / "held-out.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [((2, 2), (2, 3)), ((2, 3), (1, 0)), ((1, 0), (2, 2))],
    ids=["zero 2 to zero 3", "zero 3 to one process", "one process to zero 2"],
)
def test_resumed_in_another_sharding(
    job: dict[str, Any], tmp_path: Path, before: tuple[int, int], after: tuple[int, int]
) -> None:
    """The best weights were kept under one sharding and are restored, bit for bit, under another.

    Args:
        job: A run that overfits.
        tmp_path: Folder of the runs.
        before: Processes and ZeRO stage until after the best evaluation.
        after: Processes and ZeRO stage of the rest.
    """
    first, second = (
        changed(job, resources={"processes": processes}, sharding={"zero": zero})
        for processes, zero in (before, after)
    )
    run = train_by_command(first, tmp_path)
    best, weights = best_of(run), run.weights
    for path in (run.path / "checkpoints").iterdir():
        if int(path.name.rpartition("-")[2]) > best + 2:
            shutil.rmtree(path)
    shutil.rmtree(run.path / "model")
    (run.path / "status.json").write_text(json.dumps({"state": "running"}))
    resumed = train_by_command(second, tmp_path)
    assert resumed.path == run.path, "a new run was begun"
    assert best_of(resumed) == best
    assert_best_is_saved(resumed, tmp_path / "held-out.jsonl")
    for name, weight in resumed.weights.items():
        assert torch.equal(weight, weights[name]), name
