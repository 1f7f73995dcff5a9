"""Captured calls and shadow variants of emulated endpoints."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from tests.unit.emulator.conftest import BUCKET, HostedAccount, variant

HOME = "captured"
CAPTURE = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 50,
    "DestinationS3Uri": f"s3://{BUCKET}/{HOME}",
    "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
    "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
}


def captured(account: HostedAccount) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of each captured object, and delete the objects."""
    s3, found = account.client("s3"), {}
    for entry in s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{HOME}/").get("Contents", ()):
        body = s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read().decode()
        found[entry["Key"]] = [json.loads(line) for line in body.splitlines()]
        s3.delete_object(Bucket=BUCKET, Key=entry["Key"])
    return found


def test_a_sample_of_the_calls_is_captured_by_the_hour(account: HostedAccount) -> None:
    account.deploy(account.config("one", account.model("one"), DataCaptureConfig=CAPTURE))
    for number in range(4):
        account.ask(
            json.dumps({"n": number}), ContentType="application/json", InferenceId=f"i{number}"
        )
    moment = datetime.fromtimestamp(account.clock.now(), UTC)
    account.client("sagemaker-runtime").invoke_endpoint_with_response_stream(
        EndpointName="support", Body=b"streams are not captured"
    )
    assert not captured(account)  # the delivery takes a moment
    account.advance(70)
    ((key, lines),) = captured(account).items()
    assert key.startswith(f"{HOME}/support/main/{moment:%Y/%m/%d/%H/%M-%S}-")
    assert key.endswith(".jsonl")
    assert [line["eventMetadata"]["inferenceId"] for line in lines] == ["i1", "i3"]
    line = lines[0]
    assert line["captureData"] == {
        "endpointInput": {
            "observedContentType": "application/json",
            "mode": "INPUT",
            "data": '{"n": 1}',
            "encoding": "JSON",
        },
        "endpointOutput": {
            "observedContentType": "text/plain",
            "mode": "OUTPUT",
            "data": base64.b64encode(b'one{"n": 1}').decode(),
            "encoding": "BASE64",
        },
    }
    assert line["eventMetadata"]["inferenceTime"] == f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    assert line["eventVersion"] == "0"


def test_a_shadow_variant_answers_copies_that_no_caller_sees(account: HostedAccount) -> None:
    shadow = variant(account.model("new"), "shadow", InitialVariantWeight=0.5)
    account.deploy(
        account.config(
            "one",
            account.model("one"),
            ShadowProductionVariants=[shadow],
            DataCaptureConfig={**CAPTURE, "InitialSamplingPercentage": 100},
        )
    )
    assert [account.ask(str(number)) for number in range(4)] == ["one0", "one1", "one2", "one3"]
    hosting = account.emulator.hosting
    hosting.invocations.shadow.join()
    account.advance(70)
    answers = {
        key.split("/")[2]: sorted(
            base64.b64decode(line["captureData"]["endpointOutput"]["data"]).decode()
            for line in lines
        )
        for key, lines in captured(account).items()
    }
    assert answers == {"main": ["one0", "one1", "one2", "one3"], "shadow": ["new1", "new3"]}
    dimensions = {"EndpointName": "support", "VariantName": "shadow"}
    calls = hosting.metrics.window("Invocations", dimensions, 0, account.clock.now())
    assert len(calls) == 2


def test_a_broken_shadow_changes_no_answer(account: HostedAccount) -> None:
    shadow = variant(account.model("broken", error="x"), "shadow")
    account.deploy(account.config("one", account.model("one"), ShadowProductionVariants=[shadow]))
    assert account.ask("?") == "one?"
    hosting = account.emulator.hosting
    hosting.invocations.shadow.join()
    dimensions = {"EndpointName": "support", "VariantName": "shadow"}
    now = account.clock.now()
    assert hosting.metrics.window("Invocation5XXErrors", dimensions, 0, now) == [1.0]
