"""PPO takes the same steps however it is cut up, stopped, or shared among processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.run_commands import (
    Run,
    assert_identical,
    changed,
    read_jsonl,
    train_here,
)
from tests.two_node import train_in_pair
from training.errors import GuardError, ModelError

STEPS = 10
PER_ROUND = 4
SAME = ("reward", "kl", "kl_coefficient", "entropy", "explained_variance", "value_loss", "clipped")
"""Logged numbers that must not depend on how a step is cut up."""


@pytest.fixture(scope="module")
def job(tiny_model: Path) -> dict[str, Any]:
    """Ten steps over rounds of 16 answers, each gone through twice in steps of 8."""
    return {
        "name": "ppo",
        "model": {"source": str(tiny_model)},
        "data": {
            "prompts": ["What is str?", "What is the length of a list, and why?", "Why?"],
            "repeat": 4,
            "workers": 1,
        },
        "method": {
            "kind": "ppo",
            "reward": {"kind": "regex_count", "pattern": "[aeiou]", "scale": 0.5},
            "kl": {"target": 1.0, "coefficient": 0.05, "adaptive": True, "ceiling": 50},
            "rollout": {"max_new_tokens": 12, "batch": 16},
            "epochs": 2,
        },
        "train": {
            "max_steps": STEPS,
            "global_batch_size": 8,
            "micro_batch_size": 8,
            "learning_rate": 1e-3,
        },
        "tracking": {"mlflow": False},
    }


LORA = {"adapter": {"kind": "lora", "r": 4, "alpha": 8}, "train": {"learning_rate": 1e-2}}


@pytest.fixture(scope="module")
def straight(job: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run all others are compared with; it keeps a checkpoint of every third step."""
    kept = changed(job, checkpoint={"every": "3 steps", "keep": 9})
    return train_here(kept, tmp_path_factory.mktemp("straight"))


def stopped_after(step: int, run: Run, path: Path) -> Path:
    """Return a copy of a run as a kill after its checkpoint of `step` would have left it."""
    shutil.copytree(run.path, path, symlinks=True)
    shutil.rmtree(path / "model")
    for checkpoint in (path / "checkpoints").iterdir():
        if int(checkpoint.name.rpartition("-")[2]) > step:
            shutil.rmtree(checkpoint)
    return path


def assert_same_steps(mine: Run, other: Run, *, tolerance: float) -> None:
    assert [row["step"] for row in mine.steps] == [row["step"] for row in other.steps]
    for row, like in zip(mine.steps, other.steps, strict=True):
        for name in ("loss", "grad_norm", *SAME):
            assert row[name] == pytest.approx(like[name], abs=tolerance), (row["step"], name)
    for name, weight in mine.weights.items():
        assert (weight - other.weights[name]).abs().max() < tolerance, name


def test_the_policy_learns_and_its_critic_with_it(straight: Run) -> None:
    first, last = straight.steps[0], straight.steps[-1]
    assert first["kl"] == 0.0
    assert last["kl"] > 0.0
    assert last["explained_variance"] > first["explained_variance"]
    assert [row["ratio"] for row in straight.steps[::2]] == pytest.approx([1.0] * 5, abs=0.2)
    starts = straight.steps[::PER_ROUND]
    assert [row["ratio"] for row in starts] == pytest.approx([1.0] * len(starts), abs=1e-4)
    said = read_jsonl(straight.path / "answers.jsonl")
    assert [row["step"] for row in said] == [step for step in (0, 4, 8) for _ in range(4)]


@pytest.mark.parametrize("step", [3, 6])
def test_resumed_within_a_round_ends_with_the_same_bits(
    job: dict[str, Any], straight: Run, tmp_path: Path, step: int
) -> None:
    path = stopped_after(step, straight, tmp_path / "run")
    again = train_here(changed(job, checkpoint={"every": "3 steps", "keep": 9}), path)
    assert_identical(again, straight)
    ours = [{**row, "seconds": 0} for row in again.samples]
    assert ours == [{**row, "seconds": 0} for row in straight.samples]
    assert_same_steps(again, straight, tolerance=0.0 + 1e-12)
    said = (again.path / "answers.jsonl").read_text()
    assert said == (straight.path / "answers.jsonl").read_text()


@pytest.mark.parametrize("changes", [{"micro_batch_size": 2}, {"micro_batch_size": 1}], ids=str)
def test_micro_batches_change_nothing(
    job: dict[str, Any], straight: Run, tmp_path: Path, changes: dict[str, int]
) -> None:
    small = train_here(changed(job, train=changes), tmp_path)
    assert_same_steps(small, straight, tolerance=2e-4)


def test_adapters_share_one_backbone(job: dict[str, Any], tmp_path: Path) -> None:
    """Policy and critic are two adapters; the reference is neither; only the policy is saved."""
    tuned = changed(job, **LORA, checkpoint={"every": "6 steps"})
    run = train_here(tuned, tmp_path / "run")
    assert run.steps[0]["kl"] == 0.0
    assert run.steps[-1]["kl"] > 0.0
    assert all("critic" not in name for name in run.weights)
    assert sum("lora_B" in name for name in run.weights) == 14
    again = train_here(tuned, stopped_after(6, run, tmp_path / "again"))
    assert_identical(again, run)


def test_activations_computed_twice_are_those_of_the_same_adapter(
    job: dict[str, Any], tmp_path: Path
) -> None:
    tuned = changed(job, **LORA)
    tuned["train"]["max_steps"] = 4
    plain = train_here(tuned, tmp_path / "plain")
    twice = train_here(changed(tuned, train={"gradient_checkpointing": True}), tmp_path / "twice")
    assert_same_steps(twice, plain, tolerance=1e-5)


def test_the_critic_warms_up_alone(job: dict[str, Any], tmp_path: Path) -> None:
    method = {**job["method"], "critic": {"warmup_steps": PER_ROUND}}
    run = train_here(changed(job, method=method, train={"max_steps": 6}), tmp_path)
    assert [row["learning_rate"] > 0 for row in run.steps] == [False] * 4 + [True] * 2
    # Its first round went by and the policy still is its reference.
    assert [row["kl"] for row in run.steps] == pytest.approx([0.0] * 6, abs=1e-6)
    assert run.steps[3]["value_loss"] < run.steps[0]["value_loss"]


def test_held_out_prompts_are_answered_and_scored(job: dict[str, Any], tmp_path: Path) -> None:
    held = changed(
        job,
        data={"validation": {"split": "25%"}},
        evaluate={"every": "4 steps"},
        train={"max_steps": 8},
    )
    run = train_here(held, tmp_path)
    measured = json.loads((tmp_path / "evaluation.json").read_text())
    for when in ("before", "after"):
        found = measured[when]["validation"]
        assert found["loss"] == -found["reward"]
    assert measured["before"]["validation"]["kl"] == 0.0
    rows = [row for row in read_jsonl(tmp_path / "metrics.jsonl") if "eval_reward" in row]
    assert [row["step"] for row in rows] == [4, 8]
    said = [row for row in read_jsonl(run.path / "answers.jsonl") if row["held_out"]]
    # One of the three questions is held out, with all four of its rows.
    assert [row["step"] for row in said] == [step for step in (0, 4, 8) for _ in range(4)]


def test_answers_that_are_all_worth_the_same_stop_the_run(
    job: dict[str, Any], tmp_path: Path
) -> None:
    method = {**job["method"], "reward": {"kind": "regex_count", "pattern": "never said"}}
    short = changed(job, method=method, train={"max_steps": 300, "global_batch_size": 16})
    short["method"]["rollout"] = {"max_new_tokens": 2, "batch": 16}
    short["method"]["stop"] = {"min_answer_tokens": 0.5}
    with pytest.raises(GuardError, match="got the same reward, now 0: there is nothing to learn"):
        train_here(short, tmp_path)


def test_answers_that_do_not_fit_behind_their_prompts_are_explained(
    job: dict[str, Any], tmp_path: Path
) -> None:
    method = {**job["method"], "rollout": {"max_new_tokens": 5000}}
    with pytest.raises(ModelError, match=r"do not fit the model's context of \d+. Lower rollout"):
        train_here(changed(job, method=method), tmp_path)


def test_a_policy_beyond_its_ceiling_stops_the_run(job: dict[str, Any], tmp_path: Path) -> None:
    method = {**job["method"], "kl": {"coefficient": 0.0, "ceiling": 0.5}}
    with pytest.raises(GuardError, match=r"nats an answer from the reference \(method.kl.ceiling"):
        train_here(changed(job, method=method, train={"learning_rate": 1e-2}), tmp_path)


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(
    job: dict[str, Any], straight: Run, tmp_path: Path
) -> None:
    """The last has three held-out rows of one question, and neither process all the weights."""
    sharded = changed(job, train={"micro_batch_size": 4})
    jobs = {f"zero-{zero}": changed(sharded, sharding={"zero": zero}) for zero in (0, 2, 3)}
    jobs["uneven"] = changed(
        job,
        data={"repeat": 3, "validation": {"split": "25%"}},
        sharding={"zero": 3},
        train={"max_steps": 2, "micro_batch_size": 1},
    )
    runs = train_in_pair(jobs, tmp_path)
    uneven = runs.pop("uneven")
    measured = json.loads((uneven.path / "evaluation.json").read_text())
    assert measured["after"]["validation"]["rows"] == 3
    rows = [sorted(s["ids"]) for s in straight.samples]
    for case, two in runs.items():
        assert_same_steps(two, straight, tolerance=5e-4)
        assert [sorted(s["ids"]) for s in two.samples] == rows, case
