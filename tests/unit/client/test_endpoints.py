"""The three protocols: what is sent is what AWS's own client sends, and what comes back is read."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from client import (
    AccessRefusedError,
    BedrockEndpoint,
    ChatEndpoint,
    Client,
    ClientSettings,
    ConverseGuardrail,
    InvalidArgumentError,
    OpenAiEndpoint,
    RequestRefusedError,
    RetryPolicy,
    SageMakerEndpoint,
    ThrottledError,
    TokenRates,
    UnavailableError,
    endpoint_from_address,
)
from tests.unit.client.fault_server import FaultServer, Planned, aws_exception

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "How are you?"},
]
ONCE = ClientSettings(retry=RetryPolicy(max_retries=0))
ARN = "arn:aws:bedrock:eu-west-1:123456789012:imported-model/abc123"


def openai(server: FaultServer, **settings: Any) -> OpenAiEndpoint:
    return OpenAiEndpoint(server.url, "tiny", **settings)


@pytest.fixture(params=["openai", "sagemaker", "bedrock"])
def endpoint(request: pytest.FixtureRequest, aws: FaultServer) -> ChatEndpoint:
    if request.param == "openai":
        return openai(aws)
    if request.param == "sagemaker":
        return SageMakerEndpoint("shop", component="support-1")
    return BedrockEndpoint(ARN)


def test_one_interface(endpoint: ChatEndpoint, aws: FaultServer) -> None:
    with Client(endpoint, ONCE) as client:
        answer = client.chat(MESSAGES, max_tokens=9, temperature=0)
        with client.stream(MESSAGES, max_tokens=9, temperature=0) as stream:
            parts = list(stream)
    assert answer.text == "".join(part.text for part in parts) == aws.default.text
    assert (answer.finish_reason, answer.usage.output) == ("stop", 5)
    assert [part.finish_reason for part in parts if part.finish_reason] == ["stop"]
    assert stream.answer is not None
    assert stream.answer.text == answer.text
    assert stream.answer.usage.output == 5
    assert stream.answer.endpoint == endpoint.name


def sent_by_botocore(service: str, operation: str, **parameters: Any) -> Any:
    """Return the request that AWS's own client sends, without sending it."""
    client = botocore.session.get_session().create_client(
        service, region_name="eu-west-1", config=Config(retries={"total_max_attempts": 1})
    )
    seen: list[Any] = []

    def respond(request: Any, **_: Any) -> AWSResponse:
        seen.append(request)
        return AWSResponse(request.url, 503, {}, None)

    client.meta.events.register("before-send", respond)
    with pytest.raises(Exception, match=r"503|AttributeError|NoneType"):
        client._make_api_call(operation, parameters)
    return seen[0]


@pytest.mark.parametrize("stream", [False, True])
def test_sagemaker_request_is_the_one_of_awss_client(aws: FaultServer, stream: bool) -> None:
    endpoint = SageMakerEndpoint("shop", component="support-1", model="legal", prefix_id="app-1")
    with Client(endpoint, ONCE) as client:
        if stream:
            list(client.stream(MESSAGES, max_tokens=9, stop="END", seed=3, extra={"top_k": 4}))
        else:
            client.chat(MESSAGES, max_tokens=9, stop="END", seed=3, extra={"top_k": 4})
    (received,) = aws.requests
    assert received.body["messages"] == MESSAGES
    wanted = {"model": "legal", "max_tokens": 9, "stop": ["END"], "seed": 3, "top_k": 4}
    assert {key: received.body[key] for key in wanted} == wanted
    theirs = sent_by_botocore(
        "sagemaker-runtime",
        "InvokeEndpointWithResponseStream" if stream else "InvokeEndpoint",
        EndpointName="shop",
        InferenceComponentName="support-1",
        PrefixAwareId="app-1",
        ContentType="application/json",
        Body=received.raw,
    )
    _assert_same_request(received, theirs)


@pytest.mark.parametrize("stream", [False, True])
def test_converse_request_is_the_one_of_awss_client(aws: FaultServer, stream: bool) -> None:
    endpoint = BedrockEndpoint(ARN, guardrail=ConverseGuardrail("gr-1", "2"), prompt_cache="5m")
    settings: dict[str, Any] = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": ["X"]}
    with Client(endpoint, ONCE) as client:
        if stream:
            list(client.stream(MESSAGES, extra={"top_k": 4}, **settings))
        else:
            client.chat(MESSAGES, extra={"top_k": 4}, **settings)
    (received,) = aws.requests
    # botocore refuses a parameter that Converse does not have.
    theirs = sent_by_botocore(
        "bedrock-runtime", "ConverseStream" if stream else "Converse", modelId=ARN, **received.body
    )
    assert json.loads(theirs.body) == received.body
    _assert_same_request(received, theirs)
    assert received.body["system"][1] == {"cachePoint": {"type": "default", "ttl": "5m"}}
    assert [len(message["content"]) for message in received.body["messages"]] == [1, 2, 1]


def _assert_same_request(received: Any, theirs: Any) -> None:
    assert received.path == urlsplit(theirs.url).path
    names = {name.lower() for name in theirs.headers if name.lower().startswith("x-amzn-")}
    ours = {name for name in received.headers if name.startswith("x-amzn-")}
    assert ours == names
    for name in names:
        value = theirs.headers[name]
        assert received.headers[name] == (value.decode() if isinstance(value, bytes) else value)
    scope = received.headers["authorization"].split("Credential=")[1].split(",")[0]
    authorization = theirs.headers["Authorization"].decode()
    assert (
        scope.split("/")[2:] == authorization.split("Credential=")[1].split(",")[0].split("/")[2:]
    )


def test_a_bedrock_api_key_signs_in_place_of_credentials(
    aws: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-key")
    with Client(BedrockEndpoint("amazon.nova-lite-v1:0"), ONCE) as client:
        client.chat(MESSAGES)
    assert aws.requests[0].headers["authorization"] == "Bearer bedrock-key"
    assert aws.requests[0].path == "/model/amazon.nova-lite-v1%3A0/converse"


def test_calls_with_one_beginning_name_one_cache(server: FaultServer) -> None:
    with Client(openai(server, prompt_cache=True), ONCE) as client:
        for messages in (MESSAGES[:2], MESSAGES, [{"role": "user", "content": "Other"}]):
            client.chat(messages)
    first, second, third = (request.body["prompt_cache_key"] for request in server.requests)
    assert first == second != third


def test_prices_count_cached_tokens_apart(aws: FaultServer) -> None:
    endpoint = BedrockEndpoint(ARN, price=TokenRates(3, 15, cached_input=0.3))
    with Client(endpoint, ONCE) as client:
        stream = client.stream(MESSAGES)
        list(stream)
    assert stream.answer is not None
    assert stream.answer.usage.cached_input == 7
    assert stream.answer.cost_usd == pytest.approx((20 * 3 + 7 * 0.3 + 5 * 15) / 1e6)


@pytest.mark.parametrize(
    ("planned", "error", "message"),
    [
        (Planned(status=400, body={"error": {"message": "too long"}}), RequestRefusedError, "long"),
        (Planned(status=401, body={"error": "no"}), AccessRefusedError, "key is missing or wrong"),
        (Planned(status=404, body={}), AccessRefusedError, "no such address, endpoint or model"),
        (Planned(status=429, body={"error": {"message": "slow"}}), ThrottledError, "429: slow"),
        (Planned(status=500, body=b"<html>oops"), UnavailableError, "HTTP 500: <html>oops"),
        (Planned(body=b"<html>welcome"), UnavailableError, "is no answer"),
        (Planned(body={"choices": []}), UnavailableError, "is no answer"),
        (Planned(drop=True), UnavailableError, "cannot be reached"),
        (
            Planned(
                status=424,
                body={"OriginalStatusCode": 400, "OriginalMessage": "context is 256"},
                headers={"x-amzn-ErrorType": "ModelError"},
            ),
            RequestRefusedError,
            "HTTP 400 ModelError: context is 256",
        ),
        (
            Planned(status=424, body={"OriginalStatusCode": 503, "Message": "busy"}),
            UnavailableError,
            "503: busy",
        ),
        (
            Planned(
                status=400,
                body={"Message": "Inference Component has no capacity to process this request."},
            ),
            UnavailableError,
            "scaled to zero or starting",
        ),
        (
            Planned(status=400, body={"Message": "Endpoint shop of account 1 not found."}),
            AccessRefusedError,
            "not found",
        ),
        (
            Planned(
                status=429,
                body={"message": "loading"},
                headers={"x-amzn-ErrorType": "ModelNotReadyException:http://x"},
            ),
            ThrottledError,
            "ModelNotReadyException: loading",
        ),
    ],
)
def test_errors(
    server: FaultServer, planned: Planned, error: type[Exception], message: str
) -> None:
    server.default = planned
    with Client(openai(server), ONCE) as client:
        with pytest.raises(error, match=message):
            client.chat(MESSAGES)
        if planned.status != 200 or planned.drop:
            with pytest.raises(error, match=message):
                list(client.stream(MESSAGES))


def test_errors_inside_a_stream(aws: FaultServer) -> None:
    frame = aws_exception("throttlingException", "Too many requests")
    aws.default = Planned(body=frame)
    for endpoint in (BedrockEndpoint(ARN), SageMakerEndpoint("shop")):
        with Client(endpoint, ONCE) as client, pytest.raises(ThrottledError, match="Too many"):
            list(client.stream(MESSAGES))
    aws.default = Planned(body=frame[:-4] + b"\0\0\0\0")
    with (
        Client(BedrockEndpoint(ARN), ONCE) as client,
        pytest.raises(UnavailableError, match="damaged frame"),
    ):
        list(client.stream(MESSAGES))
    event = b'data: {"error": {"message": "engine failed", "code": 500}}\n\n'
    aws.default = Planned(body=event, headers={"Content-Type": "text/event-stream"})
    with (
        Client(openai(aws), ONCE) as client,
        pytest.raises(UnavailableError, match="engine failed"),
    ):
        list(client.stream(MESSAGES))


def test_a_missing_key_is_named(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP_KEY", raising=False)
    endpoint = openai(server, api_key_env="SHOP_KEY")
    with Client(endpoint, ONCE) as client, pytest.raises(AccessRefusedError, match="SHOP_KEY"):
        client.chat(MESSAGES)
    assert not server.requests
    monkeypatch.setenv("SHOP_KEY", "key-1")
    with Client(endpoint, ONCE) as client:
        client.chat(MESSAGES)
    assert server.requests[0].headers["authorization"] == "Bearer key-1"


def test_missing_credentials_are_named(aws: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with (
        Client(SageMakerEndpoint("shop"), ONCE) as client,
        pytest.raises(AccessRefusedError, match="no AWS credentials were found"),
    ):
        client.chat(MESSAGES)


def test_addresses(aws: FaultServer) -> None:
    made = [
        endpoint_from_address(text)
        for text in (
            "openai:http://127.0.0.1:8000/v1#support",
            "sagemaker:shop/support-1#legal",
            f"bedrock:{ARN}",
        )
    ]
    assert [type(one) for one in made] == [OpenAiEndpoint, SageMakerEndpoint, BedrockEndpoint]
    assert made[1].identity[2:] == ("support-1", "legal")
    for wrong in ("http://x", "openai:http://x", "sagemaker:", "bedrock:", "sagemaker:a_b"):
        with pytest.raises(InvalidArgumentError):
            endpoint_from_address(wrong)


def test_a_region_that_is_not_known_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(InvalidArgumentError, match="must specify a region"):
        SageMakerEndpoint("shop")
    # The ARN of a model has its own.
    assert BedrockEndpoint(ARN).name == "abc123"


@pytest.mark.parametrize(
    ("messages", "settings", "problems"),
    [
        ("Hi", {}, ["list of messages"]),
        ([], {}, ["messages is empty"]),
        (
            [{"role": "judge"}, 5],
            {"temperature": 3, "max_tokens": 0, "top_p": 0, "stop": ["", "x"], "seed": 1.5},
            ["messages[0].role", "messages[0].content", "messages[1]", "temperature", "max_tokens",
             "top_p", "stop", "seed"],
        ),
        (MESSAGES, {"timeout_s": 0, "extra": {"model": "x"}}, ["timeout_s", "extra cannot set"]),
        (MESSAGES, {"top_k": 4}, ["no setting top_k: pass it in extra"]),
    ],
)  # fmt: skip
def test_all_problems_of_a_call_are_reported_before_it_is_sent(
    server: FaultServer, messages: Any, settings: Any, problems: list[str]
) -> None:
    with Client(openai(server)) as client, pytest.raises(InvalidArgumentError) as caught:
        client.chat(messages, **settings)
    for problem in problems:
        assert problem in str(caught.value)
    assert len(caught.value.problems) == len(problems)
    assert not server.requests
