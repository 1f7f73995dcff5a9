"""Tests that health-agent log lines become events and that refused entries are retried."""

import base64
import gzip
import json
from typing import Any

import pytest

from stacks.handlers.bridge_health_events import forward_health_events
from tests.infra.handlers.conftest import Stub

FAULT = json.dumps(
    {"HealthMonitoringAgentDetectionEvent": "HealthEvent", "reason": "XidHardwareFailure 79"}
)


def _batch(*messages: str, kind: str = "DATA_MESSAGE") -> dict[str, Any]:
    body = {
        "messageType": kind,
        "owner": "123456789012",
        "logGroup": "/aws/sagemaker/Clusters/c/abc",
        "logStream": "SagemakerHealthMonitoringAgent/workers/i-0123456789abcdef0",
        "subscriptionFilters": ["f"],
        "logEvents": [{"id": str(i), "timestamp": 1, "message": m} for i, m in enumerate(messages)],
    }
    return {"awslogs": {"data": base64.b64encode(gzip.compress(json.dumps(body).encode()))}}


def _answer(*codes: str | None) -> dict[str, Any]:
    entries = [{"ErrorCode": code} if code else {"EventId": "1"} for code in codes]
    return {"FailedEntryCount": sum(map(bool, codes)), "Entries": entries}


def _run(events: Any, batch: dict[str, Any]) -> dict[str, int]:
    return forward_health_events(batch, events=events, source="temper.x", cluster="x-cluster")


def test_a_fault_becomes_an_event_that_names_the_node(stub: Stub) -> None:
    events, bus = stub("events")
    detail = {
        "ClusterName": "x-cluster",
        "HealthStatus": "Unhealthy",
        "InstanceId": "i-0123456789abcdef0",
        "HealthStatusReason": "XidHardwareFailure 79",
        "LogStream": "SagemakerHealthMonitoringAgent/workers/i-0123456789abcdef0",
    }
    entry = {
        "Source": "temper.x",
        "DetailType": "SageMaker HyperPod Cluster Node Health Event",
        "Detail": json.dumps(detail),
    }
    bus.add_response("put_events", _answer(None), {"Entries": [entry]})
    assert _run(events, _batch(FAULT, "plain text", '{"a": 1}', "[]")) == {"sent": 1, "skipped": 3}


def test_the_trial_message_is_no_event(stub: Stub) -> None:
    events, _ = stub("events")
    assert _run(events, _batch("x", kind="CONTROL_MESSAGE")) == {"sent": 0, "skipped": 0}


def test_only_the_refused_entries_are_sent_again(stub: Stub) -> None:
    events, bus = stub("events")
    bus.add_response("put_events", _answer(None, "ThrottlingException", None))
    bus.add_response("put_events", _answer(None))
    assert _run(events, _batch(FAULT, FAULT, FAULT))["sent"] == 3


def test_more_than_ten_take_several_calls(stub: Stub) -> None:
    events, bus = stub("events")
    bus.add_response("put_events", _answer(*[None] * 10))
    bus.add_response("put_events", _answer(*[None] * 2))
    assert _run(events, _batch(*[FAULT] * 12))["sent"] == 12


def test_giving_up_is_loud(stub: Stub) -> None:
    events, bus = stub("events")
    for _ in range(3):
        bus.add_response("put_events", _answer("InternalFailure"))
    with pytest.raises(RuntimeError, match="refused 1 health events 3 times"):
        _run(events, _batch(FAULT))
