"""Records of calls, and the embedded metric format."""

from __future__ import annotations

import io
import json
import os
import sys
from typing import Any

import pytest

from client import (
    BedrockGuardrail,
    CallRecord,
    Client,
    ClientSettings,
    EmfMetrics,
    GuardrailBlockedError,
    OpenAiEndpoint,
    PersonalDataMask,
    ResponseCache,
    RetryPolicy,
    TokenRates,
    UnavailableError,
)
from tests.unit.client.fault_server import FaultServer, Planned

MESSAGES = [{"role": "user", "content": "I am Maria Lopez, maria@example.org"}]
UNITS = {"Seconds", "Microseconds", "Milliseconds", "Bytes", "Count", "Percent", "None"}


def assert_embedded_metric_format(line: dict[str, Any]) -> None:
    """Check a line by the specification of CloudWatch's embedded metric format."""
    assert isinstance(line["_aws"]["Timestamp"], int)
    for directive in line["_aws"]["CloudWatchMetrics"]:
        assert 1 <= len(directive["Namespace"]) <= 255
        for dimensions in directive["Dimensions"]:
            assert len(dimensions) <= 30
            assert all(isinstance(line[name], str) and line[name] for name in dimensions)
        assert 1 <= len(directive["Metrics"]) <= 100
        for metric in directive["Metrics"]:
            assert set(metric) <= {"Name", "Unit", "StorageResolution"}
            assert metric["Unit"] in UNITS
            value = line[metric["Name"]]
            assert isinstance(value, int | float)
            assert not isinstance(value, bool)


def test_lines_of_calls(server: FaultServer) -> None:
    stream = io.StringIO()
    settings = ClientSettings(
        metrics=EmfMetrics("Shop", {"Application": "chat"}, stream),
        cache=ResponseCache(),
        mask=PersonalDataMask(),
        retry=RetryPolicy(max_retries=1, base_s=0.01),
    )
    endpoint = OpenAiEndpoint(server.url, "tiny", price=TokenRates(10, 20))
    busy = Planned(status=503, body={})
    server.plan = [busy]
    with Client(endpoint, settings) as client:
        client.chat(MESSAGES, temperature=0)
        client.chat(MESSAGES, temperature=0)
        list(client.stream(MESSAGES, seed=1))
        server.default = busy
        with pytest.raises(UnavailableError):
            client.chat(MESSAGES)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    for line in lines:
        assert_embedded_metric_format(line)
        assert (line["Endpoint"], line["Application"]) == ("tiny", "chat")
        assert line["MaskedValues"] == 2
    answered, cached, streamed, failed = lines
    assert (answered["InputTokens"], answered["OutputTokens"]) == (20, 5)
    assert answered["CostUSD"] == pytest.approx((20 * 10 + 5 * 20) / 1e6)
    assert (answered["Retries"], answered["Errors"], answered["ResponseCacheHits"]) == (1, 0, 0)
    assert (cached["ResponseCacheHits"], cached["InputTokens"], cached["CostUSD"]) == (1, 0, 0)
    assert 0 < streamed["TimeToFirstToken"] <= streamed["Latency"]
    assert "TimeToFirstToken" not in answered
    assert (failed["Errors"], failed["Error"], failed["OutputTokens"]) == (1, "UnavailableError", 0)


def test_lines_go_to_the_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    EmfMetrics()(CallRecord("tiny", 0.5))
    assert_embedded_metric_format(json.loads(capsys.readouterr().out))
    with pytest.raises(ValueError, match="each with a value"):
        EmfMetrics(dimensions={"Application": ""})


def test_metrics_that_fail_do_not_end_a_call(
    server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(record: CallRecord) -> None:
        raise OSError("disk full")

    with Client(OpenAiEndpoint(server.url, "tiny"), ClientSettings(metrics=broken)) as client:
        assert client.chat(MESSAGES).text
    assert "metrics of a call were not written: OSError" in caplog.text


def test_a_client_answers_after_a_fork(server: FaultServer) -> None:
    with Client(OpenAiEndpoint(server.url, "tiny")) as client:
        client.chat(MESSAGES)
        child = os.fork()
        if not child:
            code = 1
            try:
                code = int(client.chat(MESSAGES).text != server.default.text)
            finally:
                sys.stdout.flush()
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.chat(MESSAGES).text


@pytest.mark.parametrize(
    ("response", "source"),
    [
        ({"action": "NONE"}, None),
        (
            {
                "action": "GUARDRAIL_INTERVENED",
                "actionReason": "Guardrail blocked.",
                "assessments": [{"topicPolicy": {"topics": [{"action": "BLOCKED"}]}}],
            },
            "prompt",
        ),
    ],
)
def test_a_guardrail_of_bedrock(aws: FaultServer, response: Any, source: str | None) -> None:
    guardrail = BedrockGuardrail("gr-1", "3")
    # The prompt is examined first, then the model answers, then the answer is examined.
    aws.plan = [Planned(body=response), Planned(), Planned(body=response)]
    with Client(OpenAiEndpoint(aws.url, "tiny"), ClientSettings(guardrails=[guardrail])) as client:
        if source is None:
            assert client.chat(MESSAGES).text == aws.default.text
            texts = [
                r.body["content"][0]["text"]["text"] for r in aws.requests if "source" in r.body
            ]
            assert texts == [MESSAGES[0]["content"], aws.default.text]
        else:
            with pytest.raises(
                GuardrailBlockedError, match="refused the prompt: Guardrail blocked"
            ):
                client.chat(MESSAGES)
            assert len(aws.requests) == 1
    assert aws.requests[0].path == "/guardrail/gr-1/version/3/apply"


def test_an_answer_that_bedrocks_guardrail_masks(aws: FaultServer) -> None:
    masked = {
        "action": "GUARDRAIL_INTERVENED",
        "actionReason": "Guardrail masked.",
        "outputs": [{"text": "Hello {NAME}"}],
        "assessments": [
            {"sensitiveInformationPolicy": {"piiEntities": [{"action": "ANONYMIZED"}]}}
        ],
    }
    aws.plan = [Planned(body={"action": "NONE"}), Planned(), Planned(body=masked)]
    settings = ClientSettings(guardrails=[BedrockGuardrail("gr-1", "3")])
    with Client(OpenAiEndpoint(aws.url, "tiny"), settings) as client:
        assert client.chat(MESSAGES).text == "Hello {NAME}"
        # A guardrail that cannot be asked is not passed by.
        aws.default = Planned(status=500, body={"message": "down"})
        with pytest.raises(UnavailableError, match="the guardrail answered HTTP 500"):
            client.chat(MESSAGES)
