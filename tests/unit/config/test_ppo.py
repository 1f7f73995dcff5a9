"""Contradictions in PPO jobs are refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.run_commands import changed
from tests.unit.config.test_problems import problems
from training.config import Job
from training.config.load import parse_job
from training.config.ppo import Ppo


@pytest.fixture
def job(minimal: dict[str, Any]) -> dict[str, Any]:
    return {
        **minimal,
        "method": {"kind": "ppo", "reward": {"kind": "length", "min_words": 2}},
        "train": {"max_steps": 20, "global_batch_size": 8},
    }


def test_the_least_ppo_job_is_fine(job: dict[str, Any]) -> None:
    parsed = parse_job(job, "job.yaml")
    assert isinstance(parsed, Job)
    assert isinstance(parsed.method, Ppo)
    assert parsed.method.rollout_schedule(8) == (8, 2)
    assert parsed.method.kl.stops_at is None


CLASHES: list[tuple[dict[str, Any], str, str]] = [
    ({"method": {"rollout": {"batch": 20}}}, "method.rollout.batch", "multiple of train.global"),
    (
        {"method": {"rollout": {"batch": 8}}, "resources": {"processes": 3}},
        "method.rollout.batch",
        "multiple of resources.processes",
    ),
    ({"sharding": {"fsdp": "full"}}, "sharding.fsdp", "Use zero"),
    ({"precision": "fp16"}, "precision", "bf16"),
    ({"adapter": {"kind": "lora", "dropout": 0.1}}, "adapter.dropout", "Leave it out"),
    ({"adapter": {"kind": "lora", "bias": "all"}}, "adapter.bias", "would change with the policy"),
    ({"adapter": {"kind": "prompt_tuning"}}, "adapter.kind", "soft prompt"),
    ({"method": {"critic": {"backbone": "shared"}}}, "method.critic.backbone", "needs an adapter"),
    ({"method": {"critic": {"warmup_steps": 20}}}, "method.critic.warmup_steps", "never learn"),
    ({"method": {"kl": {"adaptive": True}}}, "method.kl", "needs a target"),
    (
        {"method": {"kl": {"adaptive": True, "target": 2, "coefficient": 0}}},
        "method.kl",
        "above zero",
    ),
    ({"method": {"kl": {"target": 6, "ceiling": 5}}}, "method.kl", "must lie above target"),
    (
        {"method": {"critic": {"backbone": "shared", "source": "x"}}},
        "method.critic",
        "leave source out",
    ),
    ({"method": {"reward": []}}, "method.reward", ""),
]


@pytest.mark.parametrize(("sections", "path", "said"), CLASHES, ids=[p for _, p, _ in CLASHES])
def test_clash(job: dict[str, Any], sections: dict[str, Any], path: str, said: str) -> None:
    found = problems(changed(job, **sections))
    assert path in found, found
    assert said in found[path]
