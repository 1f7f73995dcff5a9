"""Executions: order, references, branches, retries, cached results, stop and retry."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emulator.pipelines.step_cache import duration_s
from tests.unit.emulator.pipelines.conftest import (
    IMAGE,
    PipelineAccount,
    condition,
    definition,
    lambda_step,
    processing,
)

REASON = {"Name": "Reason", "Type": "String", "DefaultValue": "by hand"}
OUTPUT = {
    "OutputName": "evaluation",
    "S3Output": {
        "S3Uri": {
            "Std:Join": {"On": "/", "Values": ["s3://runs", "x", {"Get": "Parameters.Reason"}]}
        },
        "LocalPath": "/opt/ml/processing/output",
        "S3UploadMode": "EndOfJob",
    },
}
EVALUATE = processing(
    "evaluate",
    arguments={
        "ProcessingOutputConfig": {"Outputs": [OUTPUT]},
        "Environment": {"DATA": {"Get": "Steps.address.OutputParameters['folder']"}},
    },
    PropertyFiles=[
        {"PropertyFileName": "decisions", "OutputName": "evaluation", "FilePath": "d.json"}
    ],
)
DECISION = {
    "Std:JsonGet": {
        "PropertyFile": {"Get": "Steps.evaluate.PropertyFiles.decisions"},
        "Path": "better.decision",
    }
}
REGISTER = {
    "Name": "register",
    "Type": "RegisterModel",
    "Arguments": {
        "ModelPackageGroupName": "g",
        "CustomerMetadataProperties": {"execution": {"Get": "Execution.PipelineExecutionId"}},
        "InferenceSpecification": {"Containers": [{"Image": IMAGE}]},
    },
}
PROMOTE = lambda_step("promote", "promote", package={"Get": "Steps.register.ModelPackageArn"})
CLOSED = {"Name": "closed", "Type": "Fail", "Arguments": {"ErrorMessage": "the gate is closed"}}
WHOLE = (
    processing("prepare"),
    lambda_step("address", "prepared", "folder", message={"Get": "Steps.prepare.ExitMessage"}),
    EVALUATE,
    condition("better", DECISION, "open", IfSteps=[REGISTER, PROMOTE], ElseSteps=[CLOSED]),
)


@pytest.fixture
def whole(account: PipelineAccount) -> PipelineAccount:
    """Return an account with a pipeline of every kind of step, and what its jobs give."""
    account.create(*WHOLE, parameters=(REASON,))
    account.jobs.outcomes = [{"ExitMessage": "s3://data/abc/"}]
    account.jobs.answers = {"prepared": {"folder": "s3://data/abc/"}, "promote": {}}
    return account


def decide(account: PipelineAccount, decision: str, reason: str = "by hand") -> None:
    account.jobs.objects[f"s3://runs/x/{reason}/d.json"] = {"better": {"decision": decision}}


def test_an_open_gate_registers(whole: PipelineAccount) -> None:
    decide(whole, "open")
    status, steps = whole.run()
    assert status == "Succeeded"
    assert list(steps) == ["prepare", "address", "evaluate", "better", "register", "promote"]
    assert {step["StepStatus"] for step in steps.values()} == {"Succeeded"}
    assert steps["better"]["Metadata"]["Condition"] == {"Outcome": "True"}
    assert steps["address"]["Metadata"]["Lambda"]["OutputParameters"] == [
        {"Name": "folder", "Value": "s3://data/abc/"}
    ]
    prepare, evaluate, package = whole.jobs.requests
    assert prepare["ProcessingJobName"].startswith("pipelines-")
    assert evaluate["Environment"] == {"DATA": "s3://data/abc/"}
    execution = whole.sagemaker.list_pipeline_executions(PipelineName="docs")
    (summary,) = execution["PipelineExecutionSummaries"]
    assert package["CustomerMetadataProperties"] == {
        "execution": summary["PipelineExecutionArn"].rpartition("/")[2]
    }


def test_a_closed_gate_takes_the_other_branch(whole: PipelineAccount) -> None:
    reason = {"Name": "Reason", "Value": "drift"}
    decide(whole, "closed", "drift")
    status, steps = whole.run(PipelineParameters=[reason])
    assert status == "Failed"
    assert list(steps) == ["prepare", "address", "evaluate", "better", "closed"]
    assert steps["better"]["Metadata"]["Condition"] == {"Outcome": "False"}
    assert steps["closed"]["FailureReason"] == "the gate is closed"
    assert len(whole.jobs.requests) == 2


@pytest.mark.parametrize(
    ("outcome", "answers", "failed", "reason"),
    [
        ({}, {}, "address", "the property Steps.prepare.ExitMessage does not exist"),
        ({"ExitMessage": "x"}, {"prepared": {}}, "address", "lacks folder"),
        ({"ExitMessage": "x"}, {"prepared": "ClientError: no function"}, "address", "no function"),
        ({"ExitMessage": "x"}, {"prepared": {"folder": "s3://d"}}, "better", "cannot be read"),
        ({"ProcessingJobStatus": "Failed", "FailureReason": "AlgorithmError: exit code 2"}, {},
         "prepare", "exit code 2"),
        ({"ProcessingJobStatus": "Stopped"}, {}, "prepare", "the job was stopped"),
    ],
)  # fmt: skip
def test_a_step_fails(
    whole: PipelineAccount,
    outcome: dict[str, Any],
    answers: dict[str, Any],
    failed: str,
    reason: str,
) -> None:
    whole.jobs.outcomes, whole.jobs.answers = [outcome], answers
    status, steps = whole.run()
    assert status == "Failed" and list(steps)[-1] == failed
    assert reason in steps[failed]["FailureReason"]


def test_a_value_that_the_file_lacks_fails_the_condition(whole: PipelineAccount) -> None:
    whole.jobs.objects["s3://runs/x/by hand/d.json"] = {"other": {}}
    status, steps = whole.run()
    assert status == "Failed"
    assert steps["better"]["FailureReason"] == "the property better.decision does not exist"


def test_a_request_that_is_invalid_after_resolution_fails_the_step(
    account: PipelineAccount,
) -> None:
    wrong = {"RoleArn": {"Get": "Parameters.Reason"}}
    account.create(processing("a", arguments=wrong), parameters=(REASON,))
    status, steps = account.run()
    assert status == "Failed" and "RoleArn" in steps["a"]["FailureReason"]


POLICY = {"ExceptionType": ["SageMaker.CAPACITY_ERROR"], "IntervalSeconds": 60, "BackoffRate": 2.0}
NO_CAPACITY = {"ProcessingJobStatus": "Failed", "FailureReason": "CapacityError: none"}


@pytest.mark.parametrize(
    ("failures", "limit", "status", "attempts"),
    [
        (2, {"MaxAttempts": 2}, "Succeeded", 3),
        (3, {"MaxAttempts": 2}, "Failed", 3),
        (9, {"ExpireAfterMin": 4}, "Failed", 3),
    ],
)
def test_capacity_errors_are_repeated_with_growing_delays(
    account: PipelineAccount, failures: int, limit: dict[str, int], status: str, attempts: int
) -> None:
    account.create(processing("a", RetryPolicies=[{**POLICY, **limit}]))
    account.jobs.outcomes = [dict(NO_CAPACITY) for _ in range(failures)]
    began = account.clock.now()
    ended, steps = account.run()
    assert (ended, steps["a"]["AttemptCount"]) == (status, attempts)
    assert len({one["ProcessingJobName"] for one in account.jobs.requests}) == attempts
    assert account.clock.now() - began >= 60 + 120


def test_an_error_without_a_policy_fails_at_once(account: PipelineAccount) -> None:
    account.create(processing("a", RetryPolicies=[{**POLICY, "MaxAttempts": 5}]))
    account.jobs.outcomes = [
        {"ProcessingJobStatus": "Failed", "FailureReason": "AlgorithmError: exit code 1"}
    ]
    status, steps = account.run()
    assert status == "Failed" and steps["a"]["AttemptCount"] == 1


def cached(data: str = "a", **more: Any) -> dict[str, Any]:
    config = {"Enabled": True, "ExpireAfter": "P30D", **more}
    return processing("a", arguments={"Environment": {"DATA": data}}, CacheConfig=config)


def test_a_cached_result_is_reused_until_its_inputs_change(account: PipelineAccount) -> None:
    account.create(cached(), lambda_step("l", "x", value={"Get": "Steps.a.ExitMessage"}))
    account.jobs.answers = {"x": {}}
    account.jobs.outcomes = [{"ExitMessage": "made once"}]
    first = account.start()
    assert account.wait(first)["PipelineExecutionStatus"] == "Succeeded"
    status, steps = account.run(token="2" * 32)
    assert status == "Succeeded" and len(account.jobs.requests) == 1
    assert steps["a"]["CacheHitResult"] == {"SourcePipelineExecutionArn": first}
    for document in (cached("b"), cached("a", ExpireAfter="T1h")):
        account.clock.advance(2 * 3600)
        account.sagemaker.update_pipeline(
            PipelineName="docs", PipelineDefinition=definition(document)
        )
        before = len(account.jobs.requests)
        status, steps = account.run(token=f"{before:032d}")
        assert status == "Succeeded" and len(account.jobs.requests) == before + 1


def test_a_condition_reads_the_property_file_of_a_cached_step(account: PipelineAccount) -> None:
    arguments = {"ProcessingOutputConfig": {"Outputs": [OUTPUT]}}
    config = {"Enabled": True, "ExpireAfter": "P1D"}
    files = EVALUATE["PropertyFiles"]
    evaluate = processing("evaluate", arguments=arguments, CacheConfig=config, PropertyFiles=files)
    account.create(evaluate, condition("better", DECISION, "open"), parameters=(REASON,))
    decide(account, "open")
    account.run()
    # The output of this execution would be at another address, where nothing is written.
    status, steps = account.run(
        token="2" * 32, PipelineParameters=[{"Name": "Reason", "Value": "again"}]
    )
    assert status == "Succeeded" and "CacheHitResult" in steps["evaluate"]
    assert steps["better"]["Metadata"]["Condition"] == {"Outcome": "True"}
    assert steps["evaluate"]["Metadata"]["ProcessingJob"]["Arn"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("P365D", 365 * 86_400),
        ("30d", 30 * 86_400),
        ("T16m", 960),
        ("30dT5h", 30 * 86_400 + 18_000),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "P", "1 hour", "3600"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        duration_s(text)


def test_a_stopped_execution_stops_its_job_and_is_retried_from_there(
    account: PipelineAccount,
) -> None:
    account.create(processing("a"), processing("b", DependsOn=["a"]))
    account.jobs.holding = {"b"}
    arn = account.start()
    token = {"PipelineExecutionArn": arn, "ClientRequestToken": "u" * 32}
    pause = threading.Event()
    while "b" not in account.steps(arn) or len(account.jobs.requests) < 2:
        pause.wait(0.01)
    account.sagemaker.stop_pipeline_execution(**token)
    assert account.wait(arn)["PipelineExecutionStatus"] == "Stopped"
    states = {name: step["StepStatus"] for name, step in account.steps(arn).items()}
    assert states == {"a": "Succeeded", "b": "Stopped"}
    account.jobs.holding = set()
    account.sagemaker.retry_pipeline_execution(**token)
    assert account.wait(arn)["PipelineExecutionStatus"] == "Succeeded"
    names = [one["ProcessingJobName"].split("-")[2] for one in account.jobs.requests]
    assert names == ["a", "b", "b"]
    with pytest.raises(ClientError, match="cannot be retried"):
        account.sagemaker.retry_pipeline_execution(**token)


def test_a_token_starts_one_execution(account: PipelineAccount) -> None:
    account.create(processing("a"))
    assert account.start(token="x" * 32) == account.start(token="x" * 32)
    assert account.start(token="y" * 32) != account.start(token="x" * 32)
    listed = account.sagemaker.list_pipeline_executions(PipelineName="docs", MaxResults=1)
    assert len(listed["PipelineExecutionSummaries"]) == 1 and listed["NextToken"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([{"Name": "Other", "Value": "1"}], "Parameter Other is not defined"),
        ([], "Parameter Rows has no value"),
        ([{"Name": "Rows", "Value": "many"}], "'many' is not of type Integer"),
    ],
)
def test_parameters_are_checked(
    account: PipelineAccount, given: list[dict[str, str]], message: str
) -> None:
    account.create(processing("a"), parameters=({"Name": "Rows", "Type": "Integer"},))
    with pytest.raises(ClientError, match=message):
        account.start(PipelineParameters=given)
