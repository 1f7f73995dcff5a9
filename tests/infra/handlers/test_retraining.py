"""Tests that a pipeline starts once for a reason, within its limits, and what its steps answer."""

from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from botocore.stub import ANY

from stacks.handlers.retraining import step
from stacks.handlers.retraining.trigger import TriggerSettings, read_reason, start
from tests.infra.handlers.conftest import NOW, Stub

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/temper-dev-docs"
SETTINGS = TriggerSettings(
    pipeline="temper-dev-docs",
    bucket="data",
    manifest="pipelines/docs/manifest.json",
    cooldown_s=6 * 3600,
    monthly_runs=3,
    monthly_usd=100.0,
    usd=30.0,
    feedback_rows=50,
)
SCHEDULE = {"reason": "schedule", "time": "2026-11-20T03:00:00Z"}
ALARM = {
    "id": "event-1",
    "detail-type": "CloudWatch Alarm State Change",
    "detail": {"alarmName": "temper-dev-drift"},
}


def created(name: str) -> dict[str, Any]:
    detail = {"bucket": {"name": "data"}, "object": {"key": f"pipelines/docs/{name}.json"}}
    return {"id": "event-1", "detail-type": "Object Created", "detail": detail}


class Account:
    def __init__(self, stub: Stub) -> None:
        stubs = {service: stub(service) for service in ("s3", "sagemaker", "codepipeline")}
        self.client: Any = lambda service: stubs[service][0]
        self.s3, self.sagemaker = stubs["s3"][1], stubs["sagemaker"][1]
        self.codepipeline = stubs["codepipeline"][1]

    def has_manifest(self, text: bytes | None, key: str = SETTINGS.manifest) -> None:
        expected = {"Bucket": "data", "Key": key}
        if text is None:
            self.s3.add_client_error("get_object", "NoSuchKey", expected_params=expected)
        else:
            self.s3.add_response("get_object", {"Body": BytesIO(text)}, expected)

    def has_executions(self, *executions: tuple[str, timedelta, str]) -> None:
        summaries = [
            {
                "PipelineExecutionArn": f"{ARN}/execution/{index:012d}",
                "PipelineExecutionStatus": status,
                "StartTime": NOW - age,
                "PipelineExecutionDescription": f"schedule [data {digest}]",
            }
            for index, (status, age, digest) in enumerate(executions)
        ]
        self.sagemaker.add_response(
            "list_pipeline_executions", {"PipelineExecutionSummaries": summaries}
        )

    def starts(self, **expected: Any) -> None:
        self.sagemaker.add_response(
            "start_pipeline_execution",
            {"PipelineExecutionArn": f"{ARN}/execution/000000000009"},
            {
                "PipelineName": SETTINGS.pipeline,
                "PipelineExecutionDisplayName": ANY,
                "PipelineExecutionDescription": ANY,
                "PipelineParameters": ANY,
                "ClientRequestToken": ANY,
                **expected,
            },
        )


@pytest.fixture
def account(stub: Stub) -> Account:
    return Account(stub)


def run(event: dict[str, Any], account: Account) -> dict[str, str]:
    return start(event, SETTINGS, account.client, NOW)


def test_new_data_start_an_execution_once(account: Account) -> None:
    tokens = []
    for _ in range(2):
        account.has_manifest(b'{"digest": "d2", "rows": 10}')
        account.has_executions(("Succeeded", timedelta(days=2), "d1"))
        account.starts(PipelineExecutionDescription=f"new object {SETTINGS.manifest} [data d2]")
        original = account.client("sagemaker").meta.events

        def note(params: dict[str, Any], **_: Any) -> None:
            tokens.append(params["ClientRequestToken"])

        original.register("provide-client-params.sagemaker.StartPipelineExecution", note)
        assert run(created("manifest"), account)["outcome"] == "started"
        original.unregister("provide-client-params.sagemaker.StartPipelineExecution", note)
    assert len(tokens) == 2 and len(set(tokens)) == 1 and len(tokens[0]) == 64


@pytest.mark.parametrize(
    ("executions", "outcome"),
    [
        ([("Executing", timedelta(hours=9), "d1")], "running"),
        ([("Succeeded", timedelta(days=2), "d2")], "unchanged"),
        ([("Failed", timedelta(minutes=1), "d2"), ("Succeeded", timedelta(days=2), "d2")],
         "unchanged"),
        ([("Failed", timedelta(days=40), "d1"), ("Succeeded", timedelta(days=41), "d2")],
         "unchanged"),
        ([("Succeeded", timedelta(hours=1), "d1")], "cooling down"),
        ([("Succeeded", timedelta(days=day), "d1") for day in (2, 3, 4)], "over budget"),
        ([("Failed", timedelta(minutes=1), "d2")], "started"),
        ([("Succeeded", timedelta(days=40), "d1")], "started"),
        ([], "started"),
    ],
)  # fmt: skip
def test_limits(account: Account, executions: list[Any], outcome: str) -> None:
    account.has_manifest(b'{"digest": "d2"}')
    account.has_executions(*executions)
    if outcome == "started":
        account.starts()
    assert run(SCHEDULE, account)["outcome"] == outcome


def test_the_budget_counts_this_execution(account: Account) -> None:
    settings = TriggerSettings(**{**SETTINGS.__dict__, "monthly_runs": 9})
    account.has_manifest(b'{"digest": "d9"}')
    account.has_executions(*(("Failed", timedelta(days=day), "d") for day in (1, 2, 3)))
    answer = start(SCHEDULE, settings, account.client, NOW)
    assert answer == {
        "outcome": "over budget",
        "detail": "$120.00 with this execution, and $100.00 are allowed",
    }


def test_an_alarm_starts_without_a_manifest(account: Account) -> None:
    account.has_manifest(None)
    account.has_executions()
    account.starts(PipelineExecutionDescription="alarm temper-dev-drift [data unknown]")
    assert run(ALARM, account)["outcome"] == "started"


@pytest.mark.parametrize(("hours", "outcome"), [(1, "cooling down"), (7, "started")])
def test_an_alarm_repeats_no_failed_execution_at_once(
    account: Account, hours: int, outcome: str
) -> None:
    """New data do, in `test_limits`: whoever mends the data waits for the result."""
    account.has_manifest(b'{"digest": "d2"}')
    account.has_executions(("Failed", timedelta(hours=hours), "d2"))
    if outcome == "started":
        account.starts()
    assert run(ALARM, account)["outcome"] == outcome


def test_little_feedback_is_no_reason(account: Account) -> None:
    key = "pipelines/docs/feedback.json"
    account.has_manifest(b'{"rows": 49}', key)
    assert run(created("feedback"), account)["outcome"] == "too little feedback"
    account.has_manifest(b'{"rows": 50}', key)
    account.has_executions()
    account.starts()
    assert run(created("feedback"), account)["outcome"] == "started"


def test_an_unknown_event_is_an_error() -> None:
    with pytest.raises(ValueError, match="not an event that starts a pipeline"):
        read_reason(created("other"))
    assert read_reason(created("base-model")).kind == "base-model"


def test_the_address_of_prepared_data_is_the_last_line() -> None:
    said = "754 rows read\ns3://data/prepared/docs/abc123\n"
    answer = step.handler({"action": "prepared", "message": said}, None)
    assert answer == {"folder": "s3://data/prepared/docs/abc123/", "digest": "abc123"}
    with pytest.raises(ValueError, match="names no folder"):
        step.handler({"action": "prepared", "message": "failed"}, None)
    with pytest.raises(ValueError, match="none of prepared, champion, promote"):
        step.handler({"action": "other"}, None)


def test_the_champion_is_the_version_in_production(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step.boto3, "client", account.client)
    event = {"action": "champion", "model": "docs", "group": "g", "nothing": "s3://data/none/"}
    arn = ARN.replace("pipeline/temper-dev-docs", "model-package/g/")
    times = {"CreationTime": datetime(2026, 1, 1, tzinfo=UTC)}
    described = {
        **times,
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": []},
    }
    found = [
        {"temper-name": "other", "temper-stage": "production"},
        {"temper-name": "docs", "temper-stage": "archived"},
        {"temper-name": "docs", "temper-stage": "production", "temper-version": "1.2.0"},
    ]
    summaries = [
        {"ModelPackageArn": f"{arn}{n}", "ModelPackageStatus": "Completed", **times}
        for n in range(len(found))
    ]
    source = {"S3Uri": "s3://models/x/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    containers = [{"Image": "i", "ModelDataSource": {"S3DataSource": source}}]
    account.sagemaker.add_response("list_model_packages", {"ModelPackageSummaryList": summaries})
    for n, metadata in enumerate(found):
        package = {
            "ModelPackageArn": f"{arn}{n}",
            "ModelPackageName": "g",
            "CustomerMetadataProperties": metadata,
            "InferenceSpecification": {"Containers": containers},
            **described,
        }
        account.sagemaker.add_response("describe_model_package", package)
    assert step.handler(event, None) == {"folder": "s3://models/x/", "version": "docs@1.2.0"}
    account.sagemaker.add_response("list_model_packages", {"ModelPackageSummaryList": []})
    assert step.handler(event, None) == {"folder": "s3://data/none/", "version": "none"}


def test_a_promotion_starts_once_for_an_execution(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step.boto3, "client", account.client)
    event = {"action": "promote", "pipeline": "docs", "execution": "e1", "package": "arn"}
    monkeypatch.delenv("PROMOTION", raising=False)
    assert step.handler(event, None) == {"promotion": "none"}
    monkeypatch.setenv("PROMOTION", "temper-dev-promote")
    account.codepipeline.add_response(
        "start_pipeline_execution",
        {"pipelineExecutionId": "p1"},
        {
            "name": "temper-dev-promote",
            "variables": [
                {"name": "PIPELINE", "value": "pipelines/docs.yaml"},
                {"name": "PACKAGE", "value": "arn"},
            ],
            "clientRequestToken": "e1",
        },
    )
    assert step.handler(event, None) == {"promotion": "p1"}
