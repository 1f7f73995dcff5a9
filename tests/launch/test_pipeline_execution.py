"""The shipped pipeline, executed in an emulated SageMaker Pipelines by the user's commands."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import boto3
import pytest
import yaml

from emulator.environment import EmulatedEnvironment, emulated_services
from emulator.execution_scenario import ExecutionScenario
from emulator.instance import NamespaceRuntime
from emulator.job_lifecycle import ServiceTimings
from emulator.moto_account import moto_server
from tests.launch.emulated_platform import publish_pipelines, publish_platform
from tests.run_commands import ROOT
from tests.unit.launch.fake_accounts import DEV


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[EmulatedEnvironment]:
    """Yield an account with the parameters of the platform, and services that run containers."""
    with moto_server(tmp_path / "moto.log") as port:
        session = boto3.Session("test", "test", region_name=DEV.region)
        publish_platform(partial(session.client, endpoint_url=f"http://localhost:{port}"))
        runtime, timings = NamespaceRuntime(), ServiceTimings()
        with emulated_services(DEV, tmp_path, port, runtime, timings) as emulated:
            publish_pipelines(emulated)
            yield emulated


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the shipped pipeline with a shorter training, and without its deployment."""
    document = yaml.safe_load((ROOT / "pipelines/docs.yaml").read_text())
    del document["steps"]["deploy"]
    document["steps"]["train"]["set"] = {"train.max_steps": 12}
    for step, key in (("prepare", "job"), ("train", "job"), ("evaluate", "suite")):
        document["steps"][step][key] = str(ROOT / "pipelines" / document["steps"][step][key])
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.slow
def test_an_execution_registers_the_model_of_a_run_here_once(
    environment: EmulatedEnvironment, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        result = ExecutionScenario(environment, file, "docs", print).run()
    first, second = result.steps
    assert set(first) == {
        *("prepare", "prepare-output", "train", "evaluate-champion", "evaluate", "better"),
        "register",
    }
    assert first["better"] == "True" and second["better"] == "False"
    assert first["train"] == "Succeeded" and second["train"] == "cached"
    assert second["prepare"] == "Succeeded", "data are compared again in each execution"
    assert "register" not in second
    assert len(set(result.digests)) == 1
