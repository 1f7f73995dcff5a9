"""Variables of `resources.environment`, and settings of ZeRO that need ZeRO."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.run_commands import changed
from training.config import Job
from training.config.load import parse_job
from training.errors import JobError
from training.nodes import ALONE
from training.processes import forwarding_signals
from training.run_folder import RunFolder
from training.supervisor import NodeSupervisor, _run_command
from training.trainer.deepspeed import deepspeed_config


def with_environment(document: dict[str, Any], **variables: Any) -> Job:
    job = parse_job(changed(document, resources={"environment": variables}), "job.yaml")
    assert isinstance(job, Job)
    return job


def test_numbers_are_text(document: dict[str, Any]) -> None:
    job = with_environment(document, NCCL_DEBUG="INFO", NCCL_NVLS_ENABLE=0)
    assert job.resources.environment == {"NCCL_DEBUG": "INFO", "NCCL_NVLS_ENABLE": "0"}
    # The file of a run is read again.
    assert parse_job(json.loads(job.model_dump_json(exclude_unset=True)), "x") == job


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("RANK", "is set for each process"),
        ("MASTER_ADDR", "is set for each process"),
        ("TEMPER_STORAGE", "is set for each process"),
        ("HF_TOKEN", "TEMPER_SECRETS"),
        ("AWS_SECRET_ACCESS_KEY", "TEMPER_SECRETS"),
        ("A-B", "letters, digits and underscores"),
    ],
)
def test_wrong_names_are_refused(document: dict[str, Any], name: str, said: str) -> None:
    with pytest.raises(JobError, match=said):
        with_environment(document, **{name: "x"})


def test_training_processes_get_them(document: dict[str, Any], tmp_path: Path) -> None:
    job = with_environment(document, NCCL_DEBUG="INFO", OMP_NUM_THREADS=3)
    folder, out = RunFolder.create(tmp_path / "run", job), tmp_path / "out"
    code = "import os, sys, json; open(sys.argv[1], 'w').write(json.dumps(dict(os.environ)))"
    supervisor = NodeSupervisor(ALONE, None)  # type: ignore[arg-type]  # publishes nothing
    with forwarding_signals() as workers:
        command = [sys.executable, "-c", code, str(out)]
        variables = job.resources.environment
        _run_command(command, folder, workers, supervisor, 1, lambda: None, variables)
    environment = json.loads(out.read_text())
    assert environment["NCCL_DEBUG"] == "INFO"
    assert environment["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(
    ("sharding", "keys"),
    [
        ({"overlap_comm": True}, {"sharding.overlap_comm"}),
        ({"fsdp": "full", "reduce_bucket_size": 5}, {"sharding.reduce_bucket_size"}),
        (
            {"allgather_bucket_size": 5, "stage3_prefetch_bucket_size": 5},
            {"sharding.allgather_bucket_size", "sharding.stage3_prefetch_bucket_size"},
        ),
    ],
)
def test_settings_of_zero_need_zero(
    document: dict[str, Any], sharding: dict[str, Any], keys: set[str]
) -> None:
    with pytest.raises(JobError) as error:
        parse_job(changed(document, sharding=sharding), "job.yaml")
    assert {problem.path for problem in error.value.problems} == keys


def test_deepspeed_gets_the_buckets(document: dict[str, Any]) -> None:
    sharding = {
        "zero": 3,
        "reduce_bucket_size": 7,
        "allgather_bucket_size": 8,
        "stage3_prefetch_bucket_size": 9,
    }
    job = parse_job(changed(document, sharding=sharding), "job.yaml")
    assert isinstance(job, Job)
    config = deepspeed_config(job, micro_batch_size=1, accumulation=1, world_size=1)
    assert config is not None
    zero = config["zero_optimization"]
    assert {key: zero[key] for key in sharding if key != "zero"} == {
        key: value for key, value in sharding.items() if key != "zero"
    }
