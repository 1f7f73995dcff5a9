"""The jobs that were agreed on run as they are written, and their losses fall."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.running import ROOT, Run, read_jsonl
from training.config import Job, load_job
from training.config.load import parse_job
from training.errors import JobError
from training.runfolder import differences, resolved_yaml

JOBS = ROOT.parent / "shared/contract/jobs"

pytestmark = pytest.mark.skipif(not JOBS.is_dir(), reason="the contract's jobs are not beside us")

# What runs today, and what makes those short that take minutes: fewer steps or rows, nothing else.
RUNNING: dict[str, str] = {
    "01-pretrain": "train.max_steps=20 evaluate.every='10 steps' data.limit=60",
    "02-continue": "train.max_steps=24 evaluate.every='12 steps'",
    "03-sft-csv": "data.limit=480",
    "04-sft-chat-lora": "data.limit=120",
    "05-qlora": "",
    "06-zero3": "",
    "19-lifecycle": "stages.pretrain.train.max_steps=40",
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
    """Whether the last fifth of the losses is below the first on average."""
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
    latest = next((tmp_path / "runs").iterdir()) / "latest"
    stages = sorted((latest / "stages").iterdir()) if (latest / "stages").exists() else [latest]
    for stage in stages:
        run = Run(stage)
        assert falls(run.losses), run.losses
        held_out = [r["eval_loss"] for r in read_jsonl(stage / "metrics.jsonl") if "eval_loss" in r]
        assert len(held_out) < 2 or held_out[-1] < held_out[0]
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
