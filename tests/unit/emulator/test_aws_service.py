"""Emulated services, as boto3 sees them: parsing, serialization, validation, planted errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ParamValidationError

from emulator.aws_service import AwsServer, AwsService

ARN = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefghijkl"
CREATED = datetime(2026, 11, 29, 12, 30, tzinfo=UTC)
Request = dict[str, Any]


class Recorder:
    """Handlers that keep the parameters they got."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def answer(self, response: Mapping[str, Any]) -> Any:
        def handle(request: Request) -> Mapping[str, Any]:
            self.requests.append(request)
            return response

        return handle


RECORDER = Recorder()
CONVERSE = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello."}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3},
    "metrics": {"latencyMs": 5},
}
ENDPOINT = {
    "EndpointName": "support",
    "EndpointArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/support",
    "EndpointStatus": "InService",
    "CreationTime": CREATED.timestamp(),
    "LastModifiedTime": CREATED,
}
STREAM = [{"PayloadPart": {"Bytes": b"one "}}, {"PayloadPart": {"Bytes": b"two"}}]


@pytest.fixture(scope="module")
def services() -> dict[str, AwsService]:
    say = RECORDER.answer
    throughput = {
        "modelUnits": 1,
        "desiredModelUnits": 1,
        "provisionedModelName": "support",
        "provisionedModelArn": ARN,
        "modelArn": f"{ARN[:38]}:custom-model/a.b/abcdefghijkl",
        "desiredModelArn": f"{ARN[:38]}:custom-model/a.b/abcdefghijkl",
        "foundationModelArn": "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0",
        "status": "InService",
        "creationTime": CREATED,
        "lastModifiedTime": CREATED.timestamp(),
    }
    made = [
        AwsService(
            "sagemaker",
            {
                "DescribeEndpoint": say(ENDPOINT),
                "DeleteEndpoint": say({}),
                "ListEndpoints": say({"Endpoints": [{"EndpointName": "-"}]}),
            },
        ),
        AwsService(
            "sagemaker-runtime",
            {
                "InvokeEndpoint": say({"Body": b"answer", "InvokedProductionVariant": "main"}),
                "InvokeEndpointWithResponseStream": say({"Body": STREAM}),
            },
        ),
        AwsService("bedrock", {"GetProvisionedModelThroughput": say(throughput)}),
        AwsService("bedrock-runtime", {"Converse": say(CONVERSE)}),
    ]
    return {service.name: service for service in made}


@pytest.fixture(scope="module")
def server(services: dict[str, AwsService]) -> Iterator[AwsServer]:
    with AwsServer(list(services.values()), "http://127.0.0.1:9") as running:
        yield running


@pytest.fixture
def client(server: AwsServer, services: dict[str, AwsService]) -> Iterator[Any]:
    """Return clients, by the name of their service."""
    session = boto3.Session("test", "test", region_name="us-east-1")
    settings = Config(retries={"total_max_attempts": 1})
    yield lambda name: session.client(name, endpoint_url=server.url, config=settings)
    for service in services.values():
        service.reset()
    RECORDER.requests.clear()


def test_times_come_back_as_they_were_given(client: Any) -> None:
    described = client("sagemaker").describe_endpoint(EndpointName="support")
    assert (described["CreationTime"], described["LastModifiedTime"]) == (CREATED, CREATED)
    found = client("bedrock").get_provisioned_model_throughput(provisionedModelId=ARN)
    assert (found["creationTime"], found["lastModifiedTime"]) == (CREATED, CREATED)
    assert RECORDER.requests[-1] == {"provisionedModelId": ARN}, "the label of the path, unquoted"


def test_headers_path_and_body_arrive_as_parameters(client: Any) -> None:
    request = {
        "EndpointName": "support",
        "ContentType": "application/json",
        "InferenceComponentName": "legal",
        "Body": b'{"prompt": "Hi"}',
    }
    answer = client("sagemaker-runtime").invoke_endpoint(**request)
    assert (answer["Body"].read(), answer["InvokedProductionVariant"]) == (b"answer", "main")
    assert RECORDER.requests[-1].items() >= request.items()
    message = {"role": "user", "content": [{"text": "Hi"}]}
    said = client("bedrock-runtime").converse(modelId=ARN, messages=[message])
    assert said["output"] == CONVERSE["output"]
    assert RECORDER.requests[-1] == {"modelId": ARN, "messages": [message]}


def test_a_response_is_streamed(client: Any) -> None:
    answer = client("sagemaker-runtime").invoke_endpoint_with_response_stream(
        EndpointName="support", Body=b"{}"
    )
    assert list(answer["Body"]) == STREAM


def test_what_the_description_does_not_allow_is_rejected(client: Any) -> None:
    with pytest.raises(ClientError, match=r"EndpointName: 'a b' does not match .*") as caught:
        client("sagemaker").describe_endpoint(EndpointName="a b")
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    with pytest.raises(ParamValidationError):
        client("sagemaker").describe_endpoint(Name="support")


def test_an_unknown_parameter_is_rejected_by_the_server(services: dict[str, AwsService]) -> None:
    with pytest.raises(Exception, match='Unknown parameter in input: "Name"'):
        services["sagemaker"].call("DescribeEndpoint", {"EndpointName": "a", "Name": "a"})


def test_an_invalid_response_is_an_internal_error(client: Any) -> None:
    with pytest.raises(ClientError, match="response of ListEndpoints is invalid") as caught:
        client("sagemaker").list_endpoints()
    assert "EndpointArn" in str(caught.value)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500


def test_planted_errors_have_the_status_of_the_service(
    client: Any, services: dict[str, AwsService]
) -> None:
    services["sagemaker-runtime"].errors.plant("InvokeEndpoint", "ModelNotReadyException", "wait")
    services["sagemaker"].errors.plant("DescribeEndpoint", "ThrottlingException", times=2)
    with pytest.raises(ClientError) as caught:
        client("sagemaker-runtime").invoke_endpoint(EndpointName="support", Body=b"{}")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    for _ in range(2):
        with pytest.raises(ClientError, match=r"ThrottlingException.*Rate exceeded"):
            client("sagemaker").describe_endpoint(EndpointName="support")
    assert client("sagemaker").describe_endpoint(EndpointName="support")
    assert len(RECORDER.requests) == 1, "a planted error does nothing"


def test_a_lost_reply_was_executed(client: Any, services: dict[str, AwsService]) -> None:
    services["sagemaker"].errors.lose_replies("DeleteEndpoint")
    with pytest.raises(ConnectionClosedError):
        client("sagemaker").delete_endpoint(EndpointName="support")
    assert len(RECORDER.requests) == 1
