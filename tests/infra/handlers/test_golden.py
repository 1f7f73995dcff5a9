"""Tests that golden prompts are replayed, compared and published, and that nothing is woken."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.response import StreamingBody
from botocore.stub import ANY

from stacks.handlers.golden.replay import GoldenSettings, replay
from tests.infra.conftest import Assembly
from tests.infra.handlers.conftest import Stub

ROWS = [
    {"prompt": "a", "tokens": ["x", "y"], "log_probs": [-0.5, -1.0]},
    {"messages": [{"role": "user", "content": "b"}], "text": "yes"},
]
ARN = "arn:aws:bedrock:us-east-1:123456789012:imported-model/abc"
SAGEMAKER = "arn:aws:sagemaker:us-east-1:123456789012"


class Account:
    """Stubbed services, and the replay under test."""

    def __init__(self, stub: Stub) -> None:
        services = ("s3", "sagemaker", "sagemaker-runtime", "bedrock", "bedrock-runtime")
        self.stubs = {service: stub(service) for service in services}
        self.slept: list[float] = []

    def __getitem__(self, service: str) -> Any:
        return self.stubs[service][1]

    def prompts(self, text: str) -> None:
        """Answer the next question for the object of golden prompts."""
        self["s3"].add_response(
            "get_object",
            {"Body": body(text)},
            {"Bucket": "runs", "Key": "serving/support/watch/golden.jsonl"},
        )

    def replay(self, **changes: Any) -> dict[str, Any]:
        """Replay the golden prompts."""
        values: dict[str, Any] = {
            "name": "support", "kind": "endpoint", "resource": "temper-dev-support",
            "component": "", "bucket": "runs", "key": "serving/support/watch/golden.jsonl",
            "namespace": "temper-dev", "tolerance": 0.05, "min_agreement": 1.0, "most": 9,
        }  # fmt: skip
        settings = GoldenSettings(**{**values, **changes})
        return replay(settings, lambda service: self.stubs[service][0], self.slept.append)

    def endpoint_answers(self, document: Any, **more: Any) -> None:
        """Answer the next call of the endpoint."""
        expected = {
            "EndpointName": "temper-dev-support", "ContentType": "application/json",
            "Accept": "application/json", "Body": ANY, **more,
        }  # fmt: skip
        answer = {"Body": body(json.dumps(document)), "ContentType": "application/json"}
        self["sagemaker-runtime"].add_response("invoke_endpoint", answer, expected)


@pytest.fixture
def account(stub: Stub) -> Account:
    return Account(stub)


def body(text: str) -> StreamingBody:
    """Return the body of a response."""
    return StreamingBody(io.BytesIO(text.encode()), len(text.encode()))


def lines(rows: list[dict[str, Any]]) -> str:
    """Return rows as JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def completion(tokens: list[str], log_probs: list[float]) -> dict[str, Any]:
    """Return an answer with log-probabilities."""
    return {"choices": [{"logprobs": {"tokens": tokens, "token_logprobs": log_probs}}]}


def published(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the one line of metrics."""
    (line,) = capsys.readouterr().out.splitlines()
    document: dict[str, Any] = json.loads(line)
    (directive,) = document["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("temper-dev", [["Deployment"]])
    return document


def test_answers_as_recorded_are_no_alarm(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.prompts(lines(ROWS))
    account.endpoint_answers(completion(["x", "y"], [-0.52, -1.0]))
    account.endpoint_answers({"choices": [{"message": {"content": "yes"}}]})
    assert account.replay()["outcome"] == "as recorded"
    found = published(capsys)
    assert (found["GoldenAlarm"], found["GoldenAgreement"], found["Prompts"]) == (0, 1.0, 2)


def test_other_answers_and_errors_are_an_alarm(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.prompts(lines(ROWS))
    account.endpoint_answers(completion(["x", "z"], [-0.5, -1.0]))
    account["sagemaker-runtime"].add_client_error("invoke_endpoint", "ModelError", "broken", 424)
    outcome = account.replay()
    assert outcome["outcome"] == "differs"
    first, second = outcome["differences"]
    assert first == "line 1: token 2 is 'z', not 'y'"
    assert second.startswith("line 2: no answer: ") and "ModelError" in second
    found = published(capsys)
    assert (found["GoldenAlarm"], found["GoldenAgreement"]) == (1, 0.0)


def test_a_component_without_copies_is_not_woken(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.prompts(lines(ROWS))
    account["sagemaker"].add_response(
        "describe_inference_component",
        {
            "InferenceComponentName": "temper-dev-support",
            "InferenceComponentArn": f"{SAGEMAKER}:inference-component/a",
            "EndpointName": "temper-dev-support",
            "EndpointArn": f"{SAGEMAKER}:endpoint/a",
            "CreationTime": 0,
            "LastModifiedTime": 0,
            "RuntimeConfig": {"CurrentCopyCount": 0, "DesiredCopyCount": 0},
        },
        {"InferenceComponentName": "temper-dev-support"},
    )
    outcome = account.replay(kind="component", component="temper-dev-support")
    assert outcome == {"outcome": "nothing serves"}
    found = published(capsys)
    assert found["GoldenAlarm"] == 0 and "GoldenAgreement" not in found


@pytest.mark.parametrize("text", ["", '{"prompt": 1}\n'])
def test_without_golden_prompts_it_fails(
    account: Account, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    account.prompts(text)
    with pytest.raises(RuntimeError, match=r"s3://runs/serving/support.* cannot be used"):
        account.replay()
    assert capsys.readouterr().out == "", "no metric: the alarm takes it for a fault"


def test_an_imported_model_is_found_by_its_tags_and_awaited(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.prompts(lines(ROWS[:1]))
    models = [
        {"modelArn": f"{ARN}{number}", "modelName": "temper-dev-support-1", "creationTime": 0}
        for number in range(3)
    ]
    account["bedrock"].add_response("list_imported_models", {"modelSummaries": models})
    for name, since in (("support", "2026-11-01"), ("support", "2026-11-02"), ("support-b", "9")):
        tags = {"temper:deployment": name, "temper:since": since}
        account["bedrock"].add_response(
            "list_tags_for_resource", {"tags": [{"key": k, "value": v} for k, v in tags.items()]}
        )
    runtime = account["bedrock-runtime"]
    runtime.add_client_error("invoke_model", "ModelNotReadyException", "wait", 429)
    answer = json.dumps(completion(["x", "y"], [-0.5, -1.0]))
    expected = {
        "modelId": f"{ARN}1", "body": ANY, "contentType": "application/json",
        "accept": "application/json",
    }  # fmt: skip
    runtime.add_response(
        "invoke_model", {"body": body(answer), "contentType": "application/json"}, expected
    )
    outcome = account.replay(kind="bedrock-import")
    assert outcome["outcome"] == "as recorded" and account.slept == [15]
    assert published(capsys)["GoldenAlarm"] == 0


def test_custom_models_answer_with_texts(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.prompts(lines(ROWS))
    arn = "arn:aws:bedrock:us-east-1:123456789012:custom-model-deployment/abcdefghijkl"
    account["bedrock"].add_response(
        "get_custom_model_deployment",
        {
            "customModelDeploymentArn": arn,
            "modelDeploymentName": "temper-dev-support",
            "modelArn": "arn:aws:bedrock:us-east-1:123456789012:custom-model/a/abcdefghijkl",
            "createdAt": 0,
            "status": "Active",
        },
        {"customModelDeploymentIdentifier": "temper-dev-support"},
    )
    for text, prompt in (("xy", "a"), ("no", "b")):
        account["bedrock-runtime"].add_response(
            "converse",
            {
                "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
                "stopReason": "end_turn",
                "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
                "metrics": {"latencyMs": 1},
            },
            {
                "modelId": arn,
                "messages": [{"role": "user", "content": [{"text": prompt}]}],
                "inferenceConfig": {"maxTokens": ANY, "temperature": 0.0},
            },
        )
    outcome = account.replay(kind="bedrock-on-demand")
    assert outcome["differences"] == ["line 2: from character 1 on, the text is 'no', not 'yes'"]
    assert published(capsys)["GoldenAgreement"] == 0.5


def test_throughput_that_was_removed_is_not_asked(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.prompts(lines(ROWS))
    account["bedrock"].add_client_error(
        "get_provisioned_model_throughput", "ResourceNotFoundException", "none", 404
    )
    assert account.replay(kind="bedrock-throughput") == {"outcome": "nothing serves"}
    assert published(capsys)["Skipped"] == "nothing serves"


def test_the_function_has_the_files_that_it_imports(everything: Assembly) -> None:
    template = everything.templates["serving-assistant"]["Resources"]
    [function] = [
        resource
        for resource in template.values()
        if resource["Type"] == "AWS::Lambda::Function"
        and resource["Properties"]["Handler"] == "stacks.handlers.golden.replay.handler"
    ]
    key = str(function["Properties"]["Code"]["S3Key"])
    folder = everything.outdir / f"asset.{key.removesuffix('.zip')}"
    files = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
    assert len(files) < 12, "the checkout is not part of it"
    code = "import stacks.handlers.golden.replay as replay; print(replay.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(folder)
