"""What the rehearsal adds to a job that was written for a laptop."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from emulator.__main__ import _settings
from tests.run_commands import ROOT
from training.config import Pipeline, load_job


@pytest.mark.parametrize("job", ["jobs/quickstart.yaml", "jobs/dpo.yaml"])
def test_a_job_without_a_machine_is_given_one(job: str) -> None:
    options = argparse.Namespace(job=ROOT / job, set=["name=other"])
    loaded = load_job(ROOT / job, " ".join(_settings(options)))
    first = loaded.stages[0] if isinstance(loaded, Pipeline) else loaded
    assert loaded.name == "other"
    assert first.resources.spot and first.resources.instance == "ml.g5.xlarge"


def test_a_job_with_a_machine_keeps_it(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("resources: {instance: ml.p4d.24xlarge}\n")
    assert _settings(argparse.Namespace(job=job, set=[])) == ()
    named = ["resources.instance=ml.g6.xlarge"]
    assert _settings(argparse.Namespace(job=job, set=named)) == tuple(named)
