"""The workflow that retrains, and the buildspecs: their steps run, in an emulated account."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from emulator.deployments.serving_platform import publish_serving
from emulator.environment import EmulatedEnvironment, emulated_services
from emulator.instance import NamespaceRuntime
from emulator.job_lifecycle import ServiceTimings
from emulator.moto_account import moto_server
from emulator.pipeline_scenario import moving_clock
from tests.infra.workflow_files import read_workflow
from tests.launch.emulated_platform import publish_pipelines, publish_platform
from tests.launch.workflow_runner import JobRunner, checkout
from tests.run_commands import ROOT
from tests.unit.launch.fake_accounts import DEV

SHORT = "pipelines/short.yaml"
NO_ACCOUNT = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_EC2_METADATA_DISABLED": "true"}
VARS = {"TEMPER_TRAIN_ROLE": "train-role", "TEMPER_PROMOTE_ROLE": "promote-role"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a checkout that also has the shipped pipeline with a shorter training."""
    made = checkout(tmp_path / "checkout")
    document = yaml.safe_load((ROOT / "pipelines/docs.yaml").read_text())
    document["steps"]["train"]["set"] = {"train.max_steps": 8}
    (made / SHORT).write_text(yaml.safe_dump(document))
    return made


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[EmulatedEnvironment]:
    """Yield an account in which pipelines run and models are served."""
    work = tmp_path / "work"
    work.mkdir()
    with moto_server(work / "moto.log") as port:
        session = boto3.Session("test", "test", region_name=DEV.region)
        publish_platform(partial(session.client, endpoint_url=f"http://localhost:{port}"))
        with emulated_services(DEV, work, port, NamespaceRuntime(), ServiceTimings()) as emulated:
            publish_pipelines(emulated)
            publish_serving(emulated)
            yield emulated


def runner(folder: Path, account: dict[str, str]) -> JobRunner:
    inputs = {"pipeline": SHORT, "env": "dev", "package": "none"}
    return JobRunner(
        folder, {"inputs": inputs, "vars": VARS, "matrix": {"pipeline": SHORT}}, account
    )


def buildspec(name: str) -> dict[str, Any]:
    text = (ROOT / "pipelines/codepipeline" / f"{name}.yaml").read_text()
    content: dict[str, Any] = yaml.safe_load(text)
    return content


@pytest.mark.slow
def test_a_pull_request_trains_the_smallest_pipeline_and_plans_its_own(folder: Path) -> None:
    running = runner(folder, {})
    said = running.run(read_workflow("retrain")["jobs"]["plan"])
    assert "docs: promoted: docs@1.0.0 is production" in said
    assert running.roles == []
    commands = buildspec("plan")["phases"]["build"]["commands"]
    running.output = ""
    for command in commands:
        running.shell(command, {**NO_ACCOUNT, "PIPELINE": SHORT})
    assert "docs: unchanged: " in running.output
    planned = running.output.partition("docs: unchanged: ")[2]
    assert "ml.g5.xlarge" in planned or "USD" in planned or "$" in planned, planned


@pytest.mark.slow
def test_an_approved_start_executes_the_pipeline_in_aws(
    folder: Path, environment: EmulatedEnvironment
) -> None:
    running = runner(folder, environment.variables)
    said = running.run(read_workflow("retrain")["jobs"]["train"])
    assert running.roles == [("train-role", DEV.region)]
    arn = said.strip().splitlines()[-1].removeprefix("execution: ")
    sagemaker = environment.client("sagemaker")
    described = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    assert described["PipelineExecutionStatus"] == "Executing"
    assert arn.startswith("arn:aws:sagemaker:us-east-1:123456789012:pipeline/temper-dev-docs/")


@pytest.mark.slow
def test_an_approved_promotion_trains_and_serves_once(
    folder: Path, environment: EmulatedEnvironment
) -> None:
    running = runner(folder, environment.variables)
    with moving_clock(environment):
        said = running.run(read_workflow("retrain")["jobs"]["promote"])
        assert "docs: promoted: docs@1.0.0 is production" in said
        assert running.roles == [("promote-role", DEV.region)]
        spec = buildspec("promote")
        variables = {**spec["env"]["variables"], **environment.variables, "PIPELINE": SHORT}
        running.output = ""
        for command in spec["phases"]["build"]["commands"]:
            running.shell(command, variables)
    assert "docs: unchanged: " in running.output
    endpoints = environment.client("sagemaker").list_endpoints()["Endpoints"]
    assert [one["EndpointStatus"] for one in endpoints] == ["InService"]
