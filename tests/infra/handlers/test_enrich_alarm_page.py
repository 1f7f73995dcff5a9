"""Tests that a page names the affected resources, and is sent even if a lookup fails."""

import json
from typing import Any

import boto3
import pytest
from moto import mock_aws

from stacks.handlers.enrich_alarm_page import PageSettings, page
from stacks.handlers.page_message import publish_page, subject
from stacks.handlers.publish_event import record_recent_fault
from tests.infra.handlers.conftest import Stub

NOW = 1_800_000_000
ALARM = {
    "AlarmName": "temper-dev-training-job-stuck",
    "AlarmDescription": "No new loss. Runbook: docs/runbooks/training-job-stuck.md",
    "NewStateValue": "ALARM",
    "NewStateReason": "Threshold Crossed",
    "StateChangeTime": "2026-11-20T12:00:00.000+0000",
    "Region": "US East (N. Virginia)",
}


def stuck(job: str, minutes: int = 30) -> dict[str, Any]:
    detail = {"job": job, "fault": "training-job-stuck", "reason": f"no loss for {minutes} min"}
    return {"source": "temper.temper-dev", "detail-type": "Temper Fault", "detail": detail}


@pytest.fixture
def account() -> Any:
    """Emulated account with the table of recent faults, and a topic with a queue."""
    with mock_aws():
        region = {"region_name": "us-east-1"}
        dynamodb, sns = boto3.client("dynamodb", **region), boto3.client("sns", **region)
        dynamodb.create_table(
            TableName="told",
            KeySchema=[{"AttributeName": "fingerprint", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "fingerprint", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        sqs = boto3.client("sqs", **region)
        topic = sns.create_topic(Name="pages")["TopicArn"]
        queue = sqs.create_queue(QueueName="read")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn["Attributes"]["QueueArn"])
        yield {"dynamodb": dynamodb, "sns": sns, "sqs": sqs, "queue": queue, "topic": topic}


def told(account: dict[str, Any], alarm: dict[str, Any]) -> tuple[str, str]:
    """Page, and return the subject and the text that arrived."""
    settings = PageSettings("temper-dev", "told", account["topic"])
    page(alarm, dynamodb=account["dynamodb"], sns=account["sns"], settings=settings, now=NOW)
    answer = account["sqs"].receive_message(QueueUrl=account["queue"], MaxNumberOfMessages=10)
    [message] = [json.loads(m["Body"]) for m in answer["Messages"]]
    return message["Subject"], message["Message"]


def remember(account: dict[str, Any], event: dict[str, Any], now: int = NOW) -> None:
    record_recent_fault(event, account["dynamodb"], "told", now)


def test_the_job_is_named_with_its_reason_and_runbook(account: dict[str, Any]) -> None:
    remember(account, stuck("support-lora"), NOW - 300)
    headline, text = told(account, ALARM)
    assert headline == "ALARM: training-job-stuck: support-lora"
    assert "training-job-stuck (docs/runbooks/training-job-stuck.md)" in text
    assert "  support-lora: no loss for 30 min" in text


def test_several_jobs_are_named_the_newest_first_and_old_ones_are_not(
    account: dict[str, Any],
) -> None:
    remember(account, stuck("repaired"), NOW - 3600)
    remember(account, stuck("first"), NOW - 600)
    remember(account, stuck("second"), NOW - 300)
    headline, text = told(account, ALARM)
    assert headline == "ALARM: training-job-stuck: second, first"
    assert "repaired" not in text


def test_a_fault_that_lasts_is_still_named_hours_later(account: dict[str, Any]) -> None:
    for minutes in range(0, 300, 5):
        remember(account, stuck("slow-one", minutes), NOW - 300 * 60 + minutes * 60)
    assert "slow-one: no loss for 295 min" in told(account, ALARM)[1]
    item = account["dynamodb"].get_item(
        TableName="told", Key={"fingerprint": {"S": "recent:training-job-stuck"}}
    )["Item"]
    assert len(item["what"]["M"]) == 1


def test_an_alarm_over_an_hour_names_both_jobs(account: dict[str, Any]) -> None:
    for job, ago in (("early", 55), ("late", 1)):
        detail = {
            "TrainingJobName": job,
            "TrainingJobStatus": "Failed",
            "FailureReason": "InternalServerError",
        }
        event = {"detail-type": "SageMaker Training Job State Change", "detail": detail}
        remember(account, event, NOW - ago * 60)
    headline, _ = told(account, {**ALARM, "AlarmName": "temper-dev-training-job-failed"})
    assert headline == "ALARM: training-job-failed: late, early"


def test_a_lookup_that_fails_does_not_hold_the_page_back(stub: Stub) -> None:
    dynamodb, table = stub("dynamodb")
    sns, topic = stub("sns")
    table.add_client_error("get_item", "ProvisionedThroughputExceededException")
    sent: dict[str, Any] = {}
    topic.add_response("publish", {"MessageId": "1"})
    sns.meta.events.register(
        "provide-client-params.sns.Publish", lambda params, **_: sent.update(params)
    )
    settings = PageSettings("temper-dev", "told", "arn:aws:sns:us-east-1:123456789012:pages")
    page(ALARM, dynamodb=dynamodb, sns=sns, settings=settings, now=NOW)
    assert sent["Subject"] == "ALARM: training-job-stuck"
    assert "could not be looked up" in sent["Message"]


def test_incident_tools_get_the_format_of_an_alarm(stub: Stub) -> None:
    """PagerDuty's, Opsgenie's and Amazon Q Developer's integrations read a CloudWatch alarm."""
    sns, topic = stub("sns")
    sent: dict[str, Any] = {}
    topic.add_response("publish", {"MessageId": "1"})
    sns.meta.events.register(
        "provide-client-params.sns.Publish", lambda params, **_: sent.update(params)
    )
    arn = "arn:aws:sns:us-east-1:123456789012:pages"
    publish_page(sns, arn, ALARM, runbook="training-job-stuck", names=["a: no loss"])
    assert sent["MessageStructure"] == "json"
    by_protocol = json.loads(sent["Message"])
    structured = json.loads(by_protocol["https"])
    assert (structured["AlarmName"], structured["NewStateValue"]) == (ALARM["AlarmName"], "ALARM")
    assert "a: no loss" in structured["AlarmDescription"]
    assert by_protocol["default"] == structured["AlarmDescription"]


def test_a_subject_fits_sns() -> None:
    line = subject("ALARM", "training-job-stuck", [f"job-{i}-ü: stuck" for i in range(40)])
    assert len(line) <= 100
    assert line.isascii()
