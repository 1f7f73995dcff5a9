"""Overrides that a rehearsal adds to a job without an instance type."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.command import cloud_overrides
from tests.run_commands import ROOT
from training.config import Pipeline, load_job


@pytest.mark.parametrize("job", ["jobs/quickstart.yaml", "jobs/dpo.yaml"])
def test_job_without_instance_gets_one(job: str) -> None:
    loaded = load_job(ROOT / job, " ".join(cloud_overrides(ROOT / job, ("name=other",))))
    first = loaded.stages[0] if isinstance(loaded, Pipeline) else loaded
    assert loaded.name == "other"
    assert first.resources.spot and first.resources.instance == "ml.g5.xlarge"


def test_job_with_instance_keeps_it(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("resources: {instance: ml.p4d.24xlarge}\n")
    assert cloud_overrides(job) == ()
    named = ("resources.instance=ml.g6.xlarge",)
    assert cloud_overrides(job, named) == named
