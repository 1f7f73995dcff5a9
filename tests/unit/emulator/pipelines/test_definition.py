"""Definitions that CreatePipeline rejects, and attributes that DescribePipeline returns."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.unit.emulator.pipelines.conftest import (
    ROLE,
    PipelineAccount,
    condition,
    lambda_step,
    processing,
)

EVALUATE = processing(
    "evaluate",
    PropertyFiles=[
        {"PropertyFileName": "decisions", "OutputName": "evaluation", "FilePath": "d.json"}
    ],
)
JSON_GET = {
    "Std:JsonGet": {
        "PropertyFile": {"Get": "Steps.evaluate.PropertyFiles.decisions"},
        "Path": "better",
    }
}


def get(path: str) -> dict[str, str]:
    return {"Get": path}


def passes(path: str) -> dict[str, Any]:
    return lambda_step("use", "note", value=get(path))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "A pipeline needs a step"),
        ([processing("a"), processing("a")], "Step names must be unique"),
        ([processing("a b")], "a b: The name does not match"),
        ([processing("a", arguments={"ProcessingJobNam": "x"})],
         "a: Unknown Argument member 'ProcessingJobNam'"),
        ([{"Name": "a", "Type": "Emr", "Arguments": {}}], "The step type Emr is not emulated"),
        ([{"Name": "a", "Type": "Fail"}, {"Type": "Fail"}], "Missing required field Name"),
        ([passes("Steps.other.ExitMessage")], "use: The step other does not exist"),
        ([processing("a", DependsOn=["b"])], "a: The step b does not exist"),
        ([passes("Parameters.Reason")], "The parameter Reason is not defined"),
        ([passes("Execution.Owner")], "Execution.Owner does not exist"),
        ([passes("Other.x")], "does not begin with Steps, Parameters or Execution"),
        ([EVALUATE, passes("Steps.evaluate.ExitMessages")],
         "The property reference Steps.evaluate.ExitMessages is not defined"),
        ([EVALUATE, passes("Steps.evaluate.ModelArtifacts.S3ModelArtifacts")],
         "The property reference Steps.evaluate.ModelArtifacts.S3ModelArtifacts is not defined"),
        ([lambda_step("l", "x", "folder"), passes("Steps.l.OutputParameters['digest']")],
         "The output Steps.l.OutputParameters['digest'] is not defined"),
        ([processing("evaluate"), condition("better", JSON_GET, "open")],
         "The property file Steps.evaluate.PropertyFiles.decisions is not defined"),
        ([condition("gate", 1, 1, IfSteps=[processing("a")]), passes("Steps.a.ExitMessage")],
         "The step a is inside a condition"),
        ([processing("a", DependsOn=["b"]), processing("b", DependsOn=["a"])], "Cycle: a, b"),
    ],
)  # fmt: skip
def test_a_definition_is_refused(
    account: PipelineAccount, steps: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(ClientError, match="Unable to parse pipeline definition") as error:
        account.create(*steps)
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["{", "[1, 2, 3]", '{"Steps": []}', '{"Version": 1, "Steps": 3}'])
def test_what_is_no_definition_is_refused(account: PipelineAccount, text: str) -> None:
    with pytest.raises(ClientError, match="Unable to parse pipeline definition"):
        account.sagemaker.create_pipeline(
            PipelineName="p", PipelineDefinition=text, ClientRequestToken="t" * 32, RoleArn=ROLE
        )


def test_properties_and_property_files_that_exist_are_accepted(account: PipelineAccount) -> None:
    outputs = "Steps.evaluate.ProcessingOutputConfig.Outputs['evaluation'].S3Output.S3Uri"
    arn = account.create(
        EVALUATE,
        passes(outputs),
        condition("better", JSON_GET, "open", IfSteps=[processing("a"), processing("b")]),
    )
    described = account.sagemaker.describe_pipeline(PipelineName="docs")
    assert described["PipelineArn"] == arn and described["PipelineStatus"] == "Active"
    steps = json.loads(described["PipelineDefinition"])["Steps"]
    assert [step["Name"] for step in steps] == ["evaluate", "use", "better"]


def test_a_name_is_taken_once_and_can_be_updated_and_deleted(account: PipelineAccount) -> None:
    account.create(processing("a"))
    with pytest.raises(ClientError, match="Pipeline names must be unique"):
        account.create(processing("b"))
    with pytest.raises(ClientError, match="Unable to parse pipeline definition"):
        account.sagemaker.update_pipeline(PipelineName="docs", PipelineDefinition="{}")
    before = account.sagemaker.describe_pipeline(PipelineName="docs")
    account.clock.advance(5)
    account.sagemaker.update_pipeline(PipelineName="docs", PipelineDescription="other")
    after = account.sagemaker.describe_pipeline(PipelineName="docs")
    assert after["PipelineDescription"] == "other" and after["RoleArn"] == ROLE
    assert after["PipelineDefinition"] == before["PipelineDefinition"]
    assert after["LastModifiedTime"] > before["LastModifiedTime"]
    account.create(processing("a"), name="other")
    listed = account.sagemaker.list_pipelines(PipelineNamePrefix="do")["PipelineSummaries"]
    assert [one["PipelineName"] for one in listed] == ["docs"]
    account.sagemaker.delete_pipeline(PipelineName="docs", ClientRequestToken="d" * 32)
    with pytest.raises(account.sagemaker.exceptions.ResourceNotFound):
        account.sagemaker.describe_pipeline(PipelineName="docs")
