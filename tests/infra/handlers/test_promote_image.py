"""Tests that an image is promoted only after a good scan."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from stacks.handlers.promote_image import promote
from tests.infra.handlers.conftest import Stub

DIGEST = "sha256:" + "ab" * 32
URI = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/temper-dev/gpu@{DIGEST}"


def _event(
    status: str = "COMPLETE", tags: tuple[str, ...] = ("0.1.0-abc",), **counts: int
) -> dict[str, Any]:
    return {
        "account": "123456789012",
        "region": "us-east-1",
        "detail": {
            "scan-status": status,
            "repository-name": "temper-dev/gpu",
            "image-digest": DIGEST,
            "image-tags": list(tags),
            "finding-severity-counts": counts,
        },
    }


def _run(
    event: dict[str, Any], ssm: Any, events: Any, refuse_from: str = "CRITICAL"
) -> dict[str, Any]:
    return promote(
        event,
        ssm=ssm,
        events=events,
        prefix="temper-dev",
        refuse_from=refuse_from,
        source="temper.x",
    )


@pytest.mark.parametrize("counts", [{}, {"HIGH": 3, "MEDIUM": 10}])
def test_a_good_scan_promotes_by_digest(stub: Stub, counts: dict[str, int]) -> None:
    ssm, parameters = stub("ssm")
    events, _ = stub("events")
    wanted = {
        "Name": "/temper-dev/images/gpu/uri",
        "Value": URI,
        "Type": "String",
        "Overwrite": True,
    }
    parameters.add_response("put_parameter", {"Version": 1}, wanted)
    assert _run(_event(**counts), ssm, events) == {"promoted": True, "image": URI}


@pytest.mark.parametrize(
    ("event", "refuse_from"),
    [
        (_event(CRITICAL=1), "CRITICAL"),
        (_event(HIGH=1), "HIGH"),
        (_event(status="FAILED"), "CRITICAL"),
    ],
)
def test_a_bad_scan_is_refused_and_said(
    stub: Stub, event: dict[str, Any], refuse_from: str
) -> None:
    ssm, _ = stub("ssm")
    events, bus = stub("events")
    told: list[dict[str, Any]] = []
    events.meta.events.register(
        "provide-client-params.events.PutEvents", lambda params, **_: told.append(params)
    )
    bus.add_response("put_events", {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]})
    assert _run(event, ssm, events, refuse_from)["promoted"] is False
    detail = json.loads(told[0]["Entries"][0]["Detail"])
    assert detail["fault"] == "image-scan-findings"
    assert detail["image"] == URI


def test_an_untagged_image_is_nobodys(stub: Stub) -> None:
    ssm, _ = stub("ssm")
    events, _ = stub("events")
    assert _run(_event(tags=()), ssm, events) == {"promoted": False, "why": "untagged"}


def test_news_that_nobody_took_is_an_error(stub: Stub) -> None:
    ssm, _ = stub("ssm")
    events, bus = stub("events")
    refused = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "InternalFailure"}]}
    bus.add_response("put_events", refused)
    with pytest.raises(RuntimeError, match="did not take the news"):
        _run(_event(CRITICAL=1), ssm, events)


def test_throttling_is_left_to_the_retry(stub: Stub) -> None:
    ssm, parameters = stub("ssm")
    events, _ = stub("events")
    parameters.add_client_error("put_parameter", "ThrottlingException")
    with pytest.raises(ClientError, match="Throttling"):
        _run(_event(), ssm, events)
