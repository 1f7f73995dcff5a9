"""A student learns what its teacher thinks, whoever asks the teacher, and when."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import training.methods.distill as distill
from tests.factories import make_tiny_model
from tests.run_commands import Run, changed, train_here
from tests.two_node import train_in_pair
from training.config.load import parse_job
from training.errors import JobError, ModelError

STEPS, CUT = 8, 4


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wider model with the tokenizer of the tiny one."""
    return make_tiny_model(tmp_path_factory.mktemp("teacher") / "model", hidden_size=48)


@pytest.fixture
def job(document: dict[str, Any], teacher: Path) -> dict[str, Any]:
    method = {"kind": "distill", "teacher": str(teacher), "loss_on": "assistant"}
    return changed(
        {**document, "method": method},
        data={"validation": {"split": "20%"}},
        train={"max_steps": STEPS},
        checkpoint={"every": f"{CUT} steps"},
    )


def held_out(run: Run) -> list[float]:
    measured = json.loads((run.path / "evaluation.json").read_text())
    return [measured[when]["validation"]["loss"] for when in ("before", "after")]


def test_without_weight_a_teacher_says_nothing(job: dict[str, Any], tmp_path: Path) -> None:
    alone = train_here(changed(job, method={"soft_weight": 0.0}), tmp_path / "alone")
    plain = train_here({**job, "method": {"kind": "sft"}}, tmp_path / "plain")
    assert alone.losses == pytest.approx(plain.losses, abs=1e-5)
    assert alone.grad_norms == pytest.approx(plain.grad_norms, rel=1e-4)
    assert held_out(alone) == pytest.approx(held_out(plain), abs=1e-5)
    assert [row["hard_loss"] for row in alone.steps] == pytest.approx(plain.losses, abs=1e-5)


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "js"])
def test_student_comes_nearer(job: dict[str, Any], tmp_path: Path, divergence: str) -> None:
    method = {"soft_weight": 1.0, "divergence": divergence}
    run = train_here(changed(job, method=method, train={"learning_rate": 1e-2}), tmp_path / "run")
    soft = [row["soft_loss"] for row in run.steps]
    assert sum(soft[-2:]) < 0.9 * sum(soft[:2])


@pytest.mark.slow
def test_cut_of_a_step_changes_nothing(job: dict[str, Any], tmp_path: Path) -> None:
    whole = train_here(job, tmp_path / "whole")
    cut = train_here(changed(job, train={"micro_batch_size": 2}), tmp_path / "cut")
    assert cut.losses == pytest.approx(whole.losses, abs=1e-5)
    assert cut.grad_norms == pytest.approx(whole.grad_norms, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("packing", [False, True])
def test_kept_targets_are_what_the_teacher_says(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: bool
) -> None:
    job = changed(job, data={"packing": packing})
    asked = train_here(job, tmp_path / "asked")
    kept = changed(job, method={"top_k": 320})
    first = train_here(kept, tmp_path / "first")
    assert first.losses == pytest.approx(asked.losses, rel=1e-3)
    assert first.grad_norms == pytest.approx(asked.grad_norms, rel=1e-2)

    def refuse(*_: Any) -> None:
        raise AssertionError("the teacher was loaded once more")

    monkeypatch.setattr(distill, "load_teacher", refuse)
    second = train_here(changed(kept, train={"micro_batch_size": 4}), tmp_path / "second")
    assert second.losses == pytest.approx(first.losses, abs=1e-5)
    with pytest.raises(AssertionError, match="once more"):
        train_here(changed(kept, method={"temperature": 2.0}), tmp_path / "other")


@pytest.mark.parametrize(
    "adapter",
    [{"kind": "lora", "r": 4}, {"kind": "prompt_tuning", "num_virtual_tokens": 4}],
    ids=lambda adapter: str(adapter["kind"]),
)
def test_an_adapter_is_a_student_too(
    job: dict[str, Any], tmp_path: Path, adapter: dict[str, Any]
) -> None:
    job = changed(job, train={"learning_rate": 3e-2})
    run = train_here({**job, "adapter": adapter}, tmp_path / "run")
    before, after = held_out(run)
    assert after < before
    assert all("prompt" in name or "lora" in name for name in run.weights)


def test_goes_on_with_answers_of_its_own(job: dict[str, Any], tmp_path: Path) -> None:
    job = changed(job, method={"on_policy": "50%", "answer_tokens": 12})
    whole = train_here(job, tmp_path / "run")
    soft_only = [row["loss"] == pytest.approx(row["soft_loss"], rel=1e-4) for row in whole.steps]
    assert 0 < sum(soft_only) < STEPS, "some steps are the student's own, and not all"
    losses, weights = whole.losses, whole.weights
    shutil.rmtree(whole.path / "checkpoints" / f"checkpoint-{STEPS}")
    shutil.rmtree(whole.path / "model")
    again = train_here(job, whole.path)
    assert again.losses[-STEPS + CUT :] == losses[CUT:]
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.weights.items())


def test_other_words_are_refused(job: dict[str, Any], tmp_path: Path, tiny_model: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    first, second = list(vocab)[300:302]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match=r"another vocabulary than the student.* id 30\d is"):
        train_here(changed(job, method={"teacher": str(other)}), tmp_path / "run")


def test_impossible_jobs_are_refused(job: dict[str, Any], tmp_path: Path) -> None:
    for method, sections, says in (
        ({"top_k": 4, "on_policy": "10%"}, {}, "not sampled yet cannot be cached"),
        ({"top_k": 4}, {"sharding": {"zero": 3}}, "ZeRO 3 shards it"),
        ({"on_policy": "10%"}, {"data": {"packing": True}}, "one prompt and one answer each"),
        ({"teacher_4bit": True}, {"sharding": {"zero": 3}}, "cannot shard 4-bit"),
    ):
        with pytest.raises(JobError, match=says):
            parse_job(changed(job, method=method, **sections), "test")
    with pytest.raises(ModelError, match="folder nowhere/at/all does not exist"):
        train_here(changed(job, method={"teacher": "nowhere/at/all"}), tmp_path / "run")


def test_a_teacher_in_4_bits_says_about_the_same(job: dict[str, Any], tmp_path: Path) -> None:
    whole = train_here(job, tmp_path / "whole")
    rounded = train_here(changed(job, method={"teacher_4bit": True}), tmp_path / "rounded")
    soft = [[row["soft_loss"] for row in run.steps] for run in (whole, rounded)]
    assert soft[0] != soft[1]
    assert soft[1] == pytest.approx(soft[0], rel=0.2)


@pytest.mark.slow
def test_two_processes_ask_as_one(job: dict[str, Any], tmp_path: Path) -> None:
    """Also where the teacher is cut up among them, and where the student writes the answers."""
    short = changed(job, train={"max_steps": 4, "micro_batch_size": 2})
    own = changed(short, method={"on_policy": "100%", "answer_tokens": 12})
    jobs = {
        "zero 3": changed(short, sharding={"zero": 3}),
        "asked once": changed(short, method={"top_k": 16}, sharding={"zero": 2}),
        "own answers, zero 3": changed(own, sharding={"zero": 3}),
    }
    alone = {
        "zero 3": train_here(short, tmp_path / "alone"),
        "asked once": train_here(changed(short, method={"top_k": 16}), tmp_path / "once"),
    }
    for name, run in train_in_pair(jobs, tmp_path / "two").items():
        assert len(run.losses) == 4
        assert all(0 < loss < 10 for loss in run.losses)
        if name in alone:
            assert run.losses == pytest.approx(alone[name].losses, abs=1e-4), name
            assert run.grad_norms == pytest.approx(alone[name].grad_norms, rel=1e-3), name
