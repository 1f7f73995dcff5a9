"""A reward model on the policy's backbone is not counted as a second model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planning.method_costs import method_profile
from training.config.job import Job
from training.config.load import parse_job


@pytest.mark.parametrize(
    ("backbone", "adapter", "kind", "counted"),
    [
        ("auto", "lora", "LORA", 0),
        ("own", "lora", "LORA", 1),
        ("auto", "qlora", "LORA", 1),
        ("shared", "qlora", "LORA", 0),
        ("auto", "lora", "IA3", 1),
        ("auto", None, "LORA", 1),
    ],
)
def test_what_is_held(
    tiny_model: Path, tmp_path: Path, backbone: str, adapter: str | None, kind: str, counted: int
) -> None:
    noted = {"peft_type": kind, "base_model_name_or_path": str(tiny_model), "task_type": "SEQ_CLS"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(noted))
    document: dict[str, Any] = {
        "name": "ppo",
        "model": {"source": str(tiny_model)},
        "data": {"prompts": ["a"]},
        "method": {
            "kind": "ppo",
            "reward": {"kind": "model", "source": str(tmp_path), "backbone": backbone},
        },
    }
    if adapter:
        document["adapter"] = {"kind": adapter}
    job = parse_job(document, "ppo")
    assert isinstance(job, Job)
    assert len(method_profile(job).scorers) == counted


def test_dora_under_shards_has_a_model_of_its_own(tiny_model: Path, tmp_path: Path) -> None:
    noted = {"peft_type": "LORA", "base_model_name_or_path": str(tiny_model), "use_dora": True}
    (tmp_path / "adapter_config.json").write_text(json.dumps(noted))
    document: dict[str, Any] = {
        "name": "ppo",
        "model": {"source": str(tiny_model)},
        "data": {"prompts": ["a"]},
        "method": {"kind": "ppo", "reward": {"kind": "model", "source": str(tmp_path)}},
        "adapter": {"kind": "lora"},
    }
    for zero, counted in ((2, 0), (3, 1)):
        job = parse_job({**document, "sharding": {"zero": zero}}, "ppo")
        assert isinstance(job, Job)
        assert len(method_profile(job).scorers) == counted
