"""One process or two, however sharded: the same losses, norms and rows over twenty steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.run_commands import Run, changed, train_by_command, train_here

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


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_two_processes_take_the_steps_of_one(
    job: dict[str, Any], alone: Run, tmp_path: Path, sharding: str
) -> None:
    sharded = changed(job, sharding=SHARDINGS[sharding], resources={"processes": 2})
    two = train_by_command(sharded, tmp_path)
    assert len(two.losses) == STEPS
    assert two.losses == pytest.approx(alone.losses, abs=1e-4)
    assert two.grad_norms == pytest.approx(alone.grad_norms, rel=1e-4)
    assert max(alone.grad_norms) > 1.0, "no gradient was clipped"
    assert [sorted(s["ids"]) for s in two.samples] == [sorted(s["ids"]) for s in alone.samples]
    assert two.weights.keys() == alone.weights.keys()
    for name, weight in two.weights.items():
        assert (weight - alone.weights[name]).abs().max() < 1e-4, name


@pytest.mark.parametrize("sharding", ["zero 2", "zero 3", "fsdp"])
def test_adapter_sharded(job: dict[str, Any], tmp_path: Path, sharding: str) -> None:
    """The classic: sharded, an adapter is saved empty or never learns, and nobody says so."""
    tuned = {
        **changed(job, train={"learning_rate": 1e-2, "gradient_checkpointing": True}),
        "adapter": {"kind": "lora", "r": 4, "modules_to_save": ["lm_head"]},
    }
    alone = train_here(tuned, tmp_path / "alone")
    sharded = changed(tuned, sharding=SHARDINGS[sharding], resources={"processes": 2})
    two = train_by_command(sharded, tmp_path / "two")
    assert two.losses == pytest.approx(alone.losses, abs=1e-4)
    assert two.weights.keys() == alone.weights.keys()
    assert any("lora_B" in name for name in two.weights)
    for name, weight in two.weights.items():
        assert weight.abs().max() > 0, f"{name} is empty or zero"
        assert (weight - alone.weights[name]).abs().max() < 1e-3, name


def test_last_step_with_fewer_rows_than_processes(job: dict[str, Any], tmp_path: Path) -> None:
    """89 rows in steps of 8: the last step has one row, and one process has none."""
    short = changed(job, data={"limit": 89})
    short["train"] = {
        "num_train_epochs": 1,
        "global_batch_size": 8,
        "micro_batch_size": 4,
        "learning_rate": 1e-3,
    }
    alone = train_here(short, tmp_path / "alone")
    two = train_by_command(changed(short, resources={"processes": 2}), tmp_path / "two")
    assert two.losses == pytest.approx(alone.losses, abs=1e-4)
    assert two.grad_norms == pytest.approx(alone.grad_norms, rel=1e-4)
    seen = [row for step in two.samples for row in step["ids"]]
    assert len(seen) == len(set(seen)) == 89
    assert len(two.samples[-1]["ids"]) == 1
