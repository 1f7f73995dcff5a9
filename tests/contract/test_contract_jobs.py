"""The jobs that were agreed on run as they are written, and their losses fall."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.run_commands import ROOT, Run
from training.config import Job, load_job
from training.config.load import parse_job
from training.errors import JobError
from training.run_folder import differences, resolved_yaml

JOBS = ROOT.parent / "shared/contract/jobs"

pytestmark = pytest.mark.skipif(not JOBS.is_dir(), reason="the contract's jobs are not beside us")

# The jobs, and overrides that shorten those of several minutes: fewer steps or rows, nothing else.
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
    "12-reward": "data.limit=120",
    "13-dpo": "data.limit=90",
    "14-kto": "train.max_steps=6 data.limit=100",
    "15-orpo": "data.limit=90",
    # Three seeds of the whole job run in test_ppo.py.
    "16-ppo": "train.max_steps=10",
    "17-grpo": "",
    "18-rloo": "",
    "19-lifecycle": (
        "stages.pretrain.train.max_steps=24 "
        "stages.align.train.max_steps=4 stages.align.data.limit=60"
    ),
}


def ends(values: list[float]) -> tuple[float, float]:
    """Return the means of the first fifth of what was logged and of the last.

    Steps see different rows, so this is rough; held-out rows say it better where there are any.
    """
    part = max(2, len(values) // 5)
    return sum(values[:part]) / part, sum(values[-part:]) / part


def check_learned(stage: Path) -> None:
    """Fail unless a run moved its own measure the right way."""
    run = Run(stage)
    kind = yaml.safe_load((stage / "job.yaml").read_text())["method"]["kind"]
    measured = json.loads((stage / "evaluation.json").read_text())
    before, after = (measured[when].get("validation") for when in ("before", "after"))
    if kind in ("ppo", "grpo", "rloo"):
        first, last = ends([step["reward"] for step in run.steps])
        assert last > 1.3 * first
        assert run.steps[0]["kl"] == 0.0 < run.steps[-1]["kl"]
    elif stage.name.endswith("-align"):
        # Four steps show where it starts: at its own reference.
        assert run.losses[0] == pytest.approx(math.log(2), abs=1e-4)
        assert before["margin"] == 0.0 != after["margin"]
    elif before and kind != "kto":  # of which three rows are held out, too few to say anything
        # A loss that compares answers changes less than one that predicts tokens.
        assert after["loss"] < before["loss"] - (0.0 if kind in COMPARING else 0.2)
    else:
        first, last = ends(run.losses)
        assert last < first, run.losses


COMPARING = ("reward", "dpo")


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNNING)
def test_contract_job_runs(name: str, tmp_path: Path) -> None:
    job = JOBS / f"{name}.yaml"
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
        check_learned(stage)
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
