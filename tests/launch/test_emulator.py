"""Rehearsal of a job and its model: train through three interruptions, deploy, roll back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from emulator.deployments.scenario import DeploymentScenario
from emulator.environment import emulated_environment
from emulator.instance import NamespaceRuntime
from emulator.job_lifecycle import ServiceTimings
from emulator.moto_account import CDK
from emulator.scenario import Scenario
from temper.cli import main
from tests.run_commands import Run, changed, read_weights, train_here

EVERY = 20


@pytest.mark.slow
def test_interrupted_job_gives_the_same_model(
    document: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A spot reclaim, a machine failure and a stop by the user lose nothing."""
    assert CDK.exists(), "make .venv/.node installs the CDK command line"
    job = changed(
        document,
        train={"max_steps": 600},
        checkpoint={"every": f"{EVERY} steps", "keep": 2},
        resources={"instance": "ml.g5.xlarge", "spot": True, "max_runtime": "1h"},
    )
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    work = tmp_path / "work"
    work.mkdir()
    with emulated_environment(
        "dev", work, NamespaceRuntime(), ServiceTimings(sync_s=0.5, capacity_s=0.5)
    ) as environment:
        environment.promote_image("gpu")
        with capsys.disabled():
            result = Scenario(environment, path, (), print).run()
        fetched = environment.runs / result.run
        with capsys.disabled():
            served = DeploymentScenario(environment, [fetched] * 3, main, print, ["endpoint"]).run()
    # An interruption comes with notice; a machine failure loses what S3 did not have yet.
    assert result.repeated_steps["interrupted"] <= EVERY
    assert result.checkpoint_step > 0
    assert result.resumed_at["lost"].step > result.checkpoint_step
    assert result.repeated_steps["stopped"] <= EVERY
    assert (fetched / "report.html").exists()
    (answer,) = set(served.answers["endpoint"].values())
    assert answer, "all versions have the same weights"
    whole = train_here(job, tmp_path / "whole")
    mine, other = read_weights(fetched / "model"), whole.weights
    assert mine.keys() == other.keys()
    assert [name for name, weights in mine.items() if not weights.equal(other[name])] == []
    assert Run(fetched).samples == whole.samples
