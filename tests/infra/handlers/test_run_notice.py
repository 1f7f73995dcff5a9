"""Tests that only the creator of a run is notified of its end.

SNS is emulated by moto, whose filter policies are an implementation of its own; the policies are
those that `temper notify` subscribes with.
"""

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from moto import mock_aws

from launch.notify import filter_policy
from stacks.handlers.event_scope import EventScope
from stacks.handlers.monitor.run_endings import RunEnding
from stacks.handlers.monitor.scope import Scope
from stacks.handlers.publish_event import PublishSettings, publish_once
from stacks.handlers.run_notice import creator_of
from tests.infra.handlers.conftest import Stub

JOB_ARN = "arn:aws:sagemaker:us-east-1:123456789012:training-job/temper-dev-support"
NOW = 1_800_000_000
Inbox = Callable[[list[str], list[str]], Callable[[], list[dict[str, Any]]]]


def job_event(status: str, **tags: str) -> dict[str, Any]:
    """Return the event of a training job, with the fields of AWS's example.

    docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html
    """
    return {
        "version": "0",
        "id": "844e2571-85d4-695f-b930-0153b71dcb42",
        "detail-type": "SageMaker Training Job State Change",
        "source": "aws.sagemaker",
        "account": "123456789012",
        "time": "2026-11-28T12:26:13Z",
        "region": "us-east-1",
        "resources": [JOB_ARN],
        "detail": {
            "TrainingJobName": "temper-dev-support",
            "TrainingJobArn": JOB_ARN,
            "TrainingJobStatus": status,
            "SecondaryStatus": status,
            "Tags": tags,
        },
    }


def cluster_event(creator: str, code: int) -> dict[str, Any]:
    """Return the event that the job monitor puts on the bus for a run on a cluster."""
    ending = RunEnding("math-20261128-1", creator, code)
    return {
        "source": "temper.temper-dev",
        "detail-type": ending.event,
        "time": "2026-11-28T12:26:13Z",
        "region": "us-east-1",
        "resources": [],
        "detail": ending.detail(),
    }


@pytest.fixture
def account() -> Any:
    """Emulated account with the table and the three topics of the function."""
    with mock_aws():
        region = {"region_name": "us-east-1"}
        clients = {n: boto3.client(n, **region) for n in ("dynamodb", "sns", "sqs", "cloudwatch")}
        clients["dynamodb"].create_table(
            TableName="told",
            KeySchema=[{"AttributeName": "fingerprint", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "fingerprint", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        topics = {
            name: clients["sns"].create_topic(Name=name)["TopicArn"]
            for name in ("topic", "pages", "runs")
        }
        scope = EventScope(Scope("dev"), "temper-dev", ())
        settings = PublishSettings(
            table="told", namespace="Temper/temper-dev", scope=scope, **topics
        )
        yield clients, settings


@pytest.fixture
def inbox(account: Any) -> Inbox:
    """Factory of inboxes: a queue that subscribes with the policy of `temper notify`."""
    clients, settings = account

    def subscribe(creators: list[str], states: list[str]) -> Callable[[], list[dict[str, Any]]]:
        sqs = clients["sqs"]
        queue = sqs.create_queue(QueueName="-".join([*creators, *states]))["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        policy = filter_policy("someone@example.org", creators, states)
        clients["sns"].subscribe(
            TopicArn=settings.runs,
            Protocol="sqs",
            Endpoint=attributes["Attributes"]["QueueArn"],
            Attributes={"FilterPolicy": json.dumps(policy)},
        )

        def read() -> list[dict[str, Any]]:
            answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
            return [json.loads(message["Body"]) for message in answer.get("Messages", [])]

        return read

    return subscribe


def _publish(account: Any, event: dict[str, Any], now: int = NOW) -> bool:
    clients, settings = account
    result = publish_once(event, client=lambda n: clients[n], settings=settings, now=now)
    return bool(result["published"])


OURS = {"Environment": "dev", "temper:creator": "anna"}


def test_a_training_job_tells_its_creator_and_nobody_else(account: Any, inbox: Inbox) -> None:
    anna, ben = inbox(["anna"], []), inbox(["ben"], [])
    assert _publish(account, job_event("Completed", **OURS))
    [mail] = anna()
    assert mail["Subject"] == "Completed: temper-dev-support"
    assert "State:   Completed" in mail["Message"]
    assert ben() == []


@pytest.mark.parametrize(
    ("code", "state"), [(0, "completed"), (75, "stopped"), (4, "failed"), (137, "failed")]
)
def test_a_run_on_a_cluster_tells_its_creator(
    account: Any, inbox: Inbox, code: int, state: str
) -> None:
    anna, ben, failures = inbox(["anna"], []), inbox(["ben"], []), inbox(["anna"], ["failed"])
    assert _publish(account, cluster_event("anna", code))
    [mail] = anna()
    assert mail["MessageAttributes"]["state"]["Value"] == state
    assert mail["Subject"] == f"{state.title()}: math-20261128-1"
    assert f"exit code {code}" in mail["Message"]
    assert ben() == []
    assert len(failures()) == (state == "failed")


def test_an_end_that_is_found_for_two_hours_is_told_once(account: Any, inbox: Inbox) -> None:
    anna = inbox(["anna"], [])
    told = [_publish(account, cluster_event("anna", 0), NOW + 300 * n) for n in range(25)]
    assert told == [True] + [False] * 24
    assert len(anna()) == 1


def test_several_creators_of_one_address(account: Any, inbox: Inbox) -> None:
    both = inbox(["anna", "ben"], [])
    for creator in ("anna", "ben", "cleo"):
        _publish(account, cluster_event(creator, 0))
    assert len(both()) == 2


def test_a_job_without_a_creator_tells_nobody(account: Any, inbox: Inbox) -> None:
    anna = inbox(["anna"], [])
    assert _publish(account, job_event("Failed", Environment="dev"))
    assert anna() == []


def test_the_creator_is_read_from_the_job_if_the_event_has_no_tags(stub: Stub) -> None:
    client, requests = stub("sagemaker")
    tags = [{"Key": key, "Value": value} for key, value in OURS.items()]
    requests.add_response("list_tags", {"Tags": tags}, {"ResourceArn": JOB_ARN})
    assert creator_of(job_event("Stopped"), lambda _: client) == "anna"
    requests.add_client_error("list_tags", "ValidationException", "Requested resource not found.")
    assert creator_of(job_event("Stopped"), lambda _: client) == ""
    endpoint = {"detail-type": "SageMaker Endpoint State Change", "detail": {"Tags": OURS}}
    assert creator_of(endpoint, lambda _: client) == ""
