"""CI/CD of pipelines: what the workflow and CodePipeline may do, and what their steps run."""

from typing import Any

import boto3
import pytest
import yaml
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from moto import mock_aws

from tests.infra.conftest import ROOT
from tests.infra.workflow_files import read_workflow, shell

CODEPIPELINE = ROOT / "pipelines" / "codepipeline"
NONE, PACKAGE = "none", "arn:aws:sagemaker:us-east-1:123456789012:model-package/g/7"
COMMANDS = {
    "plan": [
        "temper pipeline run pipelines/docs.yaml",
        "temper pipeline plan pipelines/docs.yaml --cloud",
    ],
    "train": ["temper pipeline render pipelines/docs.yaml --env prod --upsert --start"],
    "promote": ["temper pipeline run pipelines/docs.yaml --env prod"],
}


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    return read_workflow("retrain")


def make_line(command: str, **variables: str) -> str:
    """Return what a make command would run last, without the interpreter."""
    line = shell(f"{command} --dry-run", **variables).splitlines()[-1]
    return " ".join(line.partition("-m ")[2].split())


@pytest.mark.parametrize("job", COMMANDS)
def test_the_steps_run_the_commands(workflow: dict[Any, Any], job: str) -> None:
    made = [
        step["run"]
        for step in workflow["jobs"][job]["steps"]
        if step.get("run", "").startswith("make")
    ]
    variables = {"TEMPER_PIPELINE": "pipelines/docs.yaml", "TEMPER_ENV": "prod"}
    for package, option in ((NONE, ""), (PACKAGE, f" --package {PACKAGE}")):
        variables["TEMPER_PACKAGE"] = package
        expected = [line + option * (job == "promote") for line in COMMANDS[job]]
        assert [make_line(command, **variables) for command in made] == expected


def test_only_approved_jobs_get_a_token(workflow: dict[Any, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert set(workflow[True]) == {"pull_request", "workflow_dispatch"}
    for name, job in workflow["jobs"].items():
        approved = "environment" in job
        assert approved == (name != "plan") == ("id-token" in job["permissions"])
        if approved:
            assert "github.event_name == 'workflow_dispatch'" in job["if"]
            assert job["environment"] == "${{ inputs.env }}" and job["env"]["YES"] == "1"


@pytest.mark.parametrize("job", ["plan", "promote"])
def test_the_buildspecs_run_the_same_commands(job: str) -> None:
    spec = yaml.safe_load((CODEPIPELINE / f"{job}.yaml").read_text())
    variables = {**spec.get("env", {}).get("variables", {}), "PIPELINE": "pipelines/docs.yaml"}
    variables["ENVIRONMENT"] = "prod"
    lines = [make_line(command, **variables) for command in spec["phases"]["build"]["commands"]]
    assert lines == COMMANDS[job]


def test_codepipeline_accepts_the_request() -> None:
    text = (CODEPIPELINE / "pipeline.yaml").read_text()
    for word, value in {
        "ACCOUNT": "123456789012",
        "ENVIRONMENT": "dev",
        "REGION": "us-east-1",
    }.items():
        text = text.replace(word, value)
    request = yaml.safe_load(text)
    model = ServiceModel(Loader().load_service_model("codepipeline", "service-2"), "codepipeline")
    shape = model.operation_model("CreatePipeline").input_shape
    assert ParamValidator().validate(request, shape).generate_report() == ""
    names = [stage["name"] for stage in request["pipeline"]["stages"]]
    assert names.index("Test") < names.index("Approve") < names.index("Promote")
    trust = '{"Statement": [{"Principal": {"Service": "codepipeline.amazonaws.com"}, '
    trust += '"Effect": "Allow", "Action": "sts:AssumeRole"}], "Version": "2012-10-17"}'
    with mock_aws():
        boto3.client("iam").create_role(
            RoleName="CODEPIPELINE-ROLE", AssumeRolePolicyDocument=trust
        )
        client = boto3.client("codepipeline", "us-east-1")
        client.create_pipeline(**request)
        assert client.list_pipelines()["pipelines"][0]["name"] == "temper-dev-promote"
