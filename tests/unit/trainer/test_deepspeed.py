"""DeepSpeed is configured from typed fields: what it is told is kept here, case by case."""

from __future__ import annotations

import json
import os
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from training.config import Job
from training.config.load import parse_job
from training.trainer.deepspeed import deepspeed_config, fsdp_config

SNAPSHOTS = Path(__file__).parent / "snapshots"
CASES = [
    (zero, offload, precision)
    for zero, offload, precision in product(
        (1, 2, 3), ("none", "cpu", "nvme"), ("fp32", "fp16", "bf16")
    )
    if offload != "nvme" or zero == 3
]


def job(sharding: dict[str, Any], precision: str = "fp32") -> Job:
    found = parse_job(
        {
            "name": "sharded",
            "model": {"source": "owner/model"},
            "data": {"train": "rows.jsonl"},
            "method": {"kind": "sft"},
            "train": {"global_batch_size": 32, "max_grad_norm": 0.5},
            "precision": precision,
            "sharding": sharding,
        },
        "test",
    )
    assert isinstance(found, Job)
    return found


def config(zero: int, offload: str, precision: str) -> dict[str, Any] | None:
    sharding: dict[str, Any] = {"zero": zero, "offload": offload}
    if offload == "nvme":
        sharding["nvme_path"] = "/tmp"
    return deepspeed_config(
        job(sharding, precision), micro_batch_size=2, accumulation=4, world_size=4
    )


@pytest.mark.parametrize(("zero", "offload", "precision"), CASES)
def test_snapshot(zero: int, offload: str, precision: str) -> None:
    """Set UPDATE_SNAPSHOTS=1 to write them again, and review the changes."""
    found = config(zero, offload, precision)
    path = SNAPSHOTS / f"zero{zero}-{offload}-{precision}.json"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    assert found == json.loads(path.read_text())


def test_no_snapshot_is_left_over() -> None:
    expected = {f"zero{zero}-{offload}-{precision}.json" for zero, offload, precision in CASES}
    assert {path.name for path in SNAPSHOTS.iterdir()} == expected


@pytest.mark.parametrize(("zero", "offload", "precision"), CASES)
def test_nothing_is_left_to_deepspeed(zero: int, offload: str, precision: str) -> None:
    text = json.dumps(config(zero, offload, precision))
    assert '"auto"' not in text
    found = json.loads(text)
    assert found["train_batch_size"] == 2 * 4 * 4
    assert found["gradient_clipping"] == 0.5
    assert [found["bf16"]["enabled"], found["fp16"]["enabled"]] == [
        precision == "bf16",
        precision == "fp16",
    ]


@pytest.mark.parametrize(("zero", "offload", "precision"), CASES)
def test_deepspeed_understands_it(zero: int, offload: str, precision: str) -> None:
    from deepspeed.runtime.config import DeepSpeedConfig

    found = config(zero, offload, precision)
    assert found is not None
    # DeepSpeed checks the batch against the processes there are; here there is one.
    understood = DeepSpeedConfig({**found, "train_batch_size": 8})
    assert understood.zero_optimization_stage == zero
    offloaded = understood.zero_config.offload_optimizer
    assert (offloaded.device if offloaded else "none") == offload


def test_unsharded_jobs_need_none() -> None:
    assert deepspeed_config(job({}), micro_batch_size=1, accumulation=1, world_size=1) is None
    assert fsdp_config(job({})) is None


def test_fsdp_shards_where_deepspeed_cannot() -> None:
    found = fsdp_config(job({"fsdp": "full"}))
    assert found is not None
    assert found["version"] == 2
    assert found["reshard_after_forward"] is True
