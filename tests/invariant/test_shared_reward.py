"""A reward model on PPO's backbone: steps are those with a second model, and it stays itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.invariant.test_ppo import assert_same_steps, stopped_after
from tests.preference_rows import preference_job, write_rows
from tests.run_commands import assert_identical, changed, train_here
from tests.two_node import train_in_pair

LORA = {"kind": "lora", "r": 4, "alpha": 8}


@pytest.fixture(scope="module")
def scorer(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model that was trained as LoRA on the model that PPO starts from."""
    folder = tmp_path_factory.mktemp("scorer")
    document = preference_job(tiny_model, write_rows("reward", folder), "reward")
    document = changed(document, adapter={**LORA, "r": 2}, train={"learning_rate": 2e-2})
    return train_here(document, folder / "run").path / "model"


@pytest.fixture
def job(tiny_model: Path, scorer: Path) -> dict[str, Any]:
    """Six steps over rounds of 8 answers, each gone through twice in steps of 4."""
    return {
        "name": "ppo",
        "model": {"source": str(tiny_model)},
        "data": {"prompts": ["What is str?", "Why?"], "repeat": 4, "workers": 1},
        "method": {
            "kind": "ppo",
            "reward": {"kind": "model", "source": str(scorer), "backbone": "shared"},
            "rollout": {"max_new_tokens": 12, "batch": 8},
            "epochs": 2,
        },
        "adapter": LORA,
        "train": {
            "max_steps": 6,
            "global_batch_size": 4,
            "micro_batch_size": 4,
            "learning_rate": 1e-2,
        },
        "checkpoint": {"every": "3 steps", "keep": 9},
        "tracking": {"mlflow": False},
    }


def with_backbone(job: dict[str, Any], backbone: str) -> dict[str, Any]:
    reward = {**job["method"]["reward"], "backbone": backbone}
    return {**job, "method": {**job["method"], "reward": reward}}


def test_steps_are_those_with_a_second_model(job: dict[str, Any], tmp_path: Path) -> None:
    shared = train_here(job, tmp_path / "shared")
    own = train_here(with_backbone(job, "own"), tmp_path / "own")
    assert len({row["reward"] for row in shared.steps}) > 1
    assert_same_steps(shared, own, tolerance=1e-4)
    assert all("reward" not in name for name in shared.weights)
    config = json.loads((shared.path / "model/adapter_config.json").read_text())
    assert config["r"] == LORA["r"]
    assert config["task_type"] == "CAUSAL_LM"
    again = train_here(job, stopped_after(3, shared, tmp_path / "again"))
    assert_identical(again, shared)


@pytest.mark.slow
def test_two_processes_that_shard_it_take_the_same_steps(
    job: dict[str, Any], tmp_path: Path
) -> None:
    jobs = {backbone: with_backbone(job, backbone) for backbone in ("shared", "own")}
    more: dict[str, Any] = {"sharding": {"zero": 3}, "train": {"micro_batch_size": 2}}
    dealt = {backbone: changed(one, **more) for backbone, one in jobs.items()}
    for backbone, two in train_in_pair(dealt, tmp_path / "pair").items():
        one = train_here(jobs[backbone], tmp_path / backbone)
        assert_same_steps(two, one, tolerance=5e-4)
