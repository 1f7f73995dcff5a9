"""Tests that a page names the affected resources, and is sent even if a lookup fails."""

import json
import time
from typing import Any

import boto3
import pytest
from moto import mock_aws

from stacks.alarms import alarm_lookups
from stacks.handlers.enrich_alarm_page import (
    PageClients,
    publish_page,
    subject,
    triggering_alarms,
)
from stacks.handlers.publish_event import record_recent_fault
from tests.infra.handlers.conftest import Stub

NOW = 1_800_000_000
ALARM = {
    "AlarmName": "temper-dev-training-in-trouble",
    "AlarmDescription": "A training job failed. Runbook: docs/runbooks/training-in-trouble.md",
    "AlarmRule": 'ALARM("temper-dev-training-job-stuck") OR ALARM("temper-dev-gpu-idle")',
    "NewStateValue": "ALARM",
    "NewStateReason": "arn:…:alarm:temper-dev-training-job-stuck transitioned to ALARM",
    "StateChangeTime": "2026-11-20T12:00:00.000+0000",
    "Region": "US East (N. Virginia)",
    "TriggeringChildren": [
        {
            "Arn": "arn:aws:cloudwatch:us-east-1:123456789012:alarm:temper-dev-training-job-stuck",
            "State": {"Value": "ALARM", "Timestamp": "2026-11-20T12:00:00.000+0000"},
        }
    ],
}
SETTINGS: dict[str, Any] = {
    "prefix": "temper-dev",
    "table": "told",
    "topic": "arn:aws:sns:us-east-1:123456789012:pages",
    "lookups": alarm_lookups("/aws/sagemaker/TrainingJobs", "loss"),
    "now": NOW,
}


def stuck(job: str, minutes: int = 30) -> dict[str, Any]:
    detail = {"job": job, "fault": "training-job-stuck", "reason": f"no loss for {minutes} min"}
    return {"source": "temper.temper-dev", "detail-type": "Temper Fault", "detail": detail}


@pytest.fixture
def account() -> Any:
    """Emulated account with the table of recent faults, a log, and a topic with a queue."""
    with mock_aws():
        region = {"region_name": "us-east-1"}
        clients = PageClients(
            dynamodb=boto3.client("dynamodb", **region),
            cloudwatch=boto3.client("cloudwatch", **region),
            logs=boto3.client("logs", **region),
            sns=boto3.client("sns", **region),
        )
        clients.dynamodb.create_table(
            TableName="told",
            KeySchema=[{"AttributeName": "fingerprint", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "fingerprint", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        sqs = boto3.client("sqs", **region)
        topic = clients.sns.create_topic(Name="pages")["TopicArn"]
        queue = sqs.create_queue(QueueName="read")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        clients.sns.subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=arn["Attributes"]["QueueArn"]
        )
        yield {"clients": clients, "sqs": sqs, "queue": queue, "topic": topic}


def told(account: dict[str, Any], alarm: dict[str, Any], **changes: Any) -> tuple[str, str]:
    """Page, and return the subject and text that arrived."""
    publish_page(alarm, account["clients"], **{**SETTINGS, "topic": account["topic"], **changes})
    answer = account["sqs"].receive_message(QueueUrl=account["queue"], MaxNumberOfMessages=10)
    [message] = [json.loads(m["Body"]) for m in answer["Messages"]]
    return message["Subject"], message["Message"]


def remember(account: dict[str, Any], event: dict[str, Any], now: int = NOW) -> None:
    record_recent_fault(event, account["clients"].dynamodb, "told", now)


def test_the_job_is_named_with_its_reason_and_runbook(account: dict[str, Any]) -> None:
    remember(account, stuck("support-lora"), NOW - 300)
    headline, text = told(account, ALARM)
    assert headline == "ALARM: training-in-trouble: support-lora"
    assert "training-job-stuck (docs/runbooks/training-job-stuck.md)" in text
    assert "  support-lora: no loss for 30 min" in text
    assert "gpu-idle" not in text, "that alarm is quiet"


def test_several_jobs_are_named_the_newest_first_and_old_ones_are_not(
    account: dict[str, Any],
) -> None:
    remember(account, stuck("forgotten"), NOW - 3 * 3600)
    remember(account, stuck("first"), NOW - 600)
    remember(account, stuck("second"), NOW - 300)
    headline, text = told(account, ALARM)
    assert headline == "ALARM: training-in-trouble: second, first"
    assert "forgotten" not in text


def test_a_fault_that_lasts_is_still_named_hours_later(account: dict[str, Any]) -> None:
    for minutes in range(0, 300, 5):
        remember(account, stuck("slow-one", minutes), NOW - 300 * 60 + minutes * 60)
    assert "slow-one: no loss for 295 min" in told(account, ALARM)[1]
    item = account["clients"].dynamodb.get_item(
        TableName="told", Key={"fingerprint": {"S": "recent:training-job-stuck"}}
    )["Item"]
    assert len(item["what"]["M"]) == 1


def test_what_is_well_again_is_told_without_names(account: dict[str, Any]) -> None:
    remember(account, stuck("support-lora"))
    headline, _ = told(account, {**ALARM, "NewStateValue": "OK"})
    assert headline == "OK: training-in-trouble"


def test_a_job_whose_loss_is_no_number_is_found_in_its_log(account: dict[str, Any]) -> None:
    logs, now = account["clients"].logs, int(time.time())  # a log takes no lines of another day
    group = "/aws/sagemaker/TrainingJobs"
    logs.create_log_group(logGroupName=group)
    for stream in ("dpo-7b/algo-1-1700000000", "dpo-7b/algo-2-1700000000"):
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
        logs.put_log_events(
            logGroupName=group,
            logStreamName=stream,
            logEvents=[{"timestamp": (now - 60) * 1000, "message": "step 7 | loss nan | lr 1e-4"}],
        )
    alarm = {**ALARM, "TriggeringChildren": [{"Arn": "arn:x:alarm:temper-dev-loss-is-nan"}]}
    headline, text = told(account, alarm, now=now)
    assert headline == "ALARM: training-in-trouble: dpo-7b"
    assert "dpo-7b: step 7 | loss nan" in text
    assert text.count("dpo-7b:") == 1


def test_an_endpoint_is_found_in_the_metrics(stub: Stub) -> None:
    dynamodb, table = stub("dynamodb")
    cloudwatch, metrics = stub("cloudwatch")
    logs, _ = stub("logs")
    sns, topic = stub("sns")
    table.add_response("get_item", {})
    query = SETTINGS["lookups"]["endpoint-errors"]["query"]
    assert query.endswith("GROUP BY EndpointName")
    metrics.add_response(
        "get_metric_data",
        {
            "MetricDataResults": [
                {"Id": "q", "Label": "assistant", "Values": [9.0, 2.0]},
                {"Id": "q", "Label": "quiet", "Values": [0.0]},
            ]
        },
        {
            "MetricDataQueries": [{"Id": "q", "Expression": query, "Period": 300}],
            "StartTime": NOW - 1200,
            "EndTime": NOW,
        },
    )  # fmt: skip
    alarm = {
        **ALARM,
        "AlarmName": "temper-dev-serving-in-trouble",
        "TriggeringChildren": [{"Arn": "arn:x:alarm:temper-dev-endpoint-errors"}],
    }
    text = "temper-dev-serving-in-trouble is now ALARM.\n\nendpoint-errors (docs/runbooks/"
    sent: dict[str, Any] = {}
    topic.add_response("publish", {"MessageId": "1"}, None)
    original = sns.publish
    sns.publish = lambda **given: sent.update(given) or original(**given)
    publish_page(alarm, PageClients(dynamodb, cloudwatch, logs, sns), **SETTINGS)
    assert sent["Subject"] == "ALARM: serving-in-trouble: assistant"
    assert sent["Message"].startswith(text)
    assert "  assistant: 9\n" in sent["Message"]
    assert "quiet" not in sent["Message"]


def test_a_look_up_that_fails_does_not_hold_the_page_back(stub: Stub) -> None:
    dynamodb, table = stub("dynamodb")
    cloudwatch, _ = stub("cloudwatch")
    logs, _ = stub("logs")
    sns, topic = stub("sns")
    table.add_client_error("get_item", "ProvisionedThroughputExceededException")
    topic.add_response("publish", {"MessageId": "1"})
    sent: dict[str, Any] = {}
    original = sns.publish
    sns.publish = lambda **given: sent.update(given) or original(**given)
    publish_page(ALARM, PageClients(dynamodb, cloudwatch, logs, sns), **SETTINGS)
    assert sent["Subject"] == "ALARM: training-in-trouble"
    assert "could not be looked up" in sent["Message"]


def test_without_word_of_its_children_all_that_a_composite_stands_on_is_looked_at() -> None:
    alarm = {key: value for key, value in ALARM.items() if key != "TriggeringChildren"}
    assert triggering_alarms(alarm, "temper-dev") == ["training-job-stuck", "gpu-idle"]


def test_a_subject_fits_sns() -> None:
    line = subject("ALARM", "training-in-trouble", [("x", [f"jöb-{n}: r" for n in range(40)])])
    assert len(line) == 100
    assert line.isascii()
