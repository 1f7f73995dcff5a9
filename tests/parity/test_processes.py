"""One process or two, however sharded: the same losses, norms and rows over twenty steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.run_commands import Run, changed, train_by_command, train_here
from tests.two_node import train_in_pair

pytestmark = pytest.mark.slow

STEPS = 20


@pytest.fixture(scope="module")
def job(tiny_model: Path, pairs: Path) -> dict[str, Any]:
    """Twenty steps with clipping at work, over 90 rows, so that epochs end within steps."""
    return {
        "name": "processes",
        "model": {"source": str(tiny_model)},
        "data": {"train": str(pairs), "max_length": 96, "workers": 1, "limit": 90},
        "method": {"kind": "sft"},
        "train": {
            "max_steps": STEPS,
            "global_batch_size": 8,
            "micro_batch_size": 2,
            "learning_rate": 1e-3,
            "weight_decay": 0.01,
        },
        "tracking": {"mlflow": False},
    }


@pytest.fixture(scope="module")
def alone(job: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_here(job, tmp_path_factory.mktemp("alone"))


SHARDINGS: dict[str, dict[str, Any]] = {
    "zero 0": {"zero": 0},
    "zero 1": {"zero": 1},
    "zero 2": {"zero": 2},
    "zero 3": {"zero": 3},
    "zero 2, optimizer in CPU memory": {"zero": 2, "offload": "cpu"},
    "zero 3, weights in CPU memory": {"zero": 3, "offload": "cpu"},
    "fsdp": {"fsdp": "full"},
}


ADAPTER = {"kind": "lora", "r": 4, "modules_to_save": ["lm_head"]}


def tuned(job: dict[str, Any]) -> dict[str, Any]:
    more = {"learning_rate": 1e-2, "gradient_checkpointing": True}
    return {**changed(job, train=more), "adapter": ADAPTER}


def short(job: dict[str, Any]) -> dict[str, Any]:
    """89 rows in steps of 8: the last step has one row, and one process has none."""
    train = {"num_train_epochs": 1, "global_batch_size": 8, "micro_batch_size": 4}
    return {**changed(job, data={"limit": 89}), "train": {**train, "learning_rate": 1e-3}}


@pytest.fixture(scope="module")
def two_processes(
    job: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Run]:
    """Runs in two processes, by name: ZeRO in the same pair of processes, FSDP by the command."""
    jobs = {name: changed(job, sharding=sharding) for name, sharding in SHARDINGS.items()}
    for name in ("zero 2", "zero 3", "fsdp"):
        jobs[f"adapter, {name}"] = changed(tuned(job), sharding=SHARDINGS[name])
    jobs["short"] = short(job)
    in_pair = {name: one for name, one in jobs.items() if "fsdp" not in name}
    runs: dict[str, Run] = {}

    def run(name: str) -> Run:
        home = tmp_path_factory.mktemp("two")
        if "fsdp" in name:
            return train_by_command(changed(jobs[name], resources={"processes": 2}), home)
        if not runs:
            runs.update(train_in_pair(in_pair, home))
        return runs[name]

    return run


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_two_processes_take_the_steps_of_one(
    alone: Run, two_processes: Callable[[str], Run], sharding: str
) -> None:
    two = two_processes(sharding)
    assert len(two.losses) == STEPS
    assert two.losses == pytest.approx(alone.losses, abs=1e-4)
    assert two.grad_norms == pytest.approx(alone.grad_norms, rel=1e-4)
    assert max(alone.grad_norms) > 1.0, "no gradient was clipped"
    assert [sorted(s["ids"]) for s in two.samples] == [sorted(s["ids"]) for s in alone.samples]
    assert two.weights.keys() == alone.weights.keys()
    for name, weight in two.weights.items():
        assert (weight - alone.weights[name]).abs().max() < 1e-4, name


@pytest.fixture(scope="module")
def tuned_alone(job: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_here(tuned(job), tmp_path_factory.mktemp("tuned"))


@pytest.mark.parametrize("sharding", ["zero 2", "zero 3", "fsdp"])
def test_adapter_sharded(
    tuned_alone: Run, two_processes: Callable[[str], Run], sharding: str
) -> None:
    """The classic: sharded, an adapter is saved empty or never learns, and nobody says so."""
    alone, two = tuned_alone, two_processes(f"adapter, {sharding}")
    assert two.losses == pytest.approx(alone.losses, abs=1e-4)
    assert two.weights.keys() == alone.weights.keys()
    assert any("lora_B" in name for name in two.weights)
    for name, weight in two.weights.items():
        assert weight.abs().max() > 0, f"{name} is empty or zero"
        assert (weight - alone.weights[name]).abs().max() < 1e-3, name


def test_last_step_with_fewer_rows_than_processes(
    job: dict[str, Any], two_processes: Callable[[str], Run], tmp_path: Path
) -> None:
    alone, two = train_here(short(job), tmp_path / "alone"), two_processes("short")
    assert two.losses == pytest.approx(alone.losses, abs=1e-4)
    assert two.grad_norms == pytest.approx(alone.grad_norms, rel=1e-4)
    seen = [row for step in two.samples for row in step["ids"]]
    assert len(seen) == len(set(seen)) == 89
    assert len(two.samples[-1]["ids"]) == 1
