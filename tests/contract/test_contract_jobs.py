"""The jobs that were agreed on run as they are written, and their losses fall."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.running import ROOT, Run
from training.config import Job, load_job
from training.config.load import parse_job
from training.errors import JobError
from training.runfolder import differences, resolved_yaml

JOBS = ROOT.parent / "shared/contract/jobs"

pytestmark = pytest.mark.skipif(not JOBS.is_dir(), reason="the contract's jobs are not beside us")

# What runs today, and what makes those short that take minutes: fewer steps or rows, nothing else.
RUNNING: dict[str, str] = {
    "01-pretrain": "train.max_steps=20 evaluate.every='10 steps' data.limit=12",
    "02-continue": (
        "train.max_steps=16 evaluate.every='8 steps' data.limit=20 "
        "data.replay.source.source=../shared/data/pretrain/standard_ebooks.parquet "
        "data.replay.source.limit=20 "
        "evaluate.forgetting.source=../shared/data/pretrain/wikitext2_valid.txt.gz "
        "evaluate.forgetting.limit=20"
    ),
    "03-sft-csv": "data.limit=320",
    "04-sft-chat-lora": "data.limit=60",
    "05-qlora": "",
    "06-zero3": "",
    "07-prompt-tuning": "train.max_steps=30 data.limit=300",
    "08-p-tuning": "train.max_steps=30 data.limit=300",
    "09-prefix-tuning": "train.max_steps=30 data.limit=300",
    "10-bottleneck": "train.max_steps=30 data.limit=300",
    "11-distill": "train.max_steps=30",
    "19-lifecycle": "stages.pretrain.train.max_steps=24",
}
WAITING = {"align"}
"""Stages of methods that are yet to come."""


def document(name: str) -> dict[str, Any]:
    """Return a contract job, without the stages that wait for their method."""
    found: dict[str, Any] = yaml.safe_load((JOBS / f"{name}.yaml").read_text())
    if "stages" in found:
        found["stages"] = [stage for stage in found["stages"] if stage["name"] not in WAITING]
    return found


def falls(losses: list[float]) -> bool:
    """Whether the last fifth of the losses is below the first on average.

    Steps see different rows, so this is rough; held-out rows say it better where there are any.
    """
    part = max(2, len(losses) // 5)
    return sum(losses[-part:]) / part < sum(losses[:part]) / part


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNNING)
def test_contract_job_runs(name: str, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(document(name), sort_keys=False))
    options = ["--set", RUNNING[name]] if RUNNING[name] else []
    done = subprocess.run(
        [sys.executable, "-m", "training", str(job), "--runs", str(tmp_path / "runs"), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    (latest,) = (tmp_path / "runs").glob("*/latest")
    stages = sorted((latest / "stages").iterdir()) if (latest / "stages").exists() else [latest]
    for stage in stages:
        run = Run(stage)
        measured = json.loads((stage / "evaluation.json").read_text())
        before, after = (measured[when].get("validation") for when in ("before", "after"))
        if before:
            assert after["loss"] < before["loss"] - 0.2
        else:
            assert falls(run.losses), run.losses
        assert run.state == "finished"
        assert all(weight.isfinite().all() for weight in run.weights.values())
    assert (latest / "model/config.json").exists() or (
        latest / "model/adapter_config.json"
    ).exists()
    assert (latest / "model/tokenizer.json").exists()


def every_job() -> list[str]:
    return sorted(path.stem for path in JOBS.glob("*.yaml")) if JOBS.is_dir() else []


def job_of(name: str) -> Any:
    """Return a contract job parsed, or None where it names a method or adapter yet to come."""
    try:
        return load_job(JOBS / f"{name}.yaml")
    except JobError as error:
        missing = [p for p in error.problems if p.message == "no such kind"]
        assert missing, error
        return None


@pytest.mark.parametrize("name", every_job())
def test_resolved_job_reads_like_the_job(name: str) -> None:
    job = job_of(name)
    if job is None:
        pytest.skip("names a method or adapter that is yet to come")
    again = parse_job(yaml.safe_load(resolved_yaml(job)), name)
    assert again.model_dump() == job.model_dump()
    assert differences(job, again) == []


@pytest.mark.parametrize("name", [name for name in RUNNING if name != "19-lifecycle"])
def test_contract_job_is_accepted_as_written(name: str) -> None:
    assert isinstance(load_job(JOBS / f"{name}.yaml"), Job)
