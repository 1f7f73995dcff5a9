"""`temper watch NAME --env ENV`: calls of emulated deployments, found by the deployment's name."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from deployment.account import DeploymentAccount
from deployment.targets.base import AnsweringTarget, DeploymentTarget, connect_target
from emulator.bedrock_account import BedrockTimings
from emulator.clock import SystemClock
from monitoring import deployed
from monitoring.errors import LogError
from monitoring.options import WatchOptions
from monitoring.watched_log import choose_calls, read_watched_log
from temper.cli import main
from tests.factories import docstring_pairs, write_jsonl
from tests.unit.deployment.bedrock import BedrockDeployments, bedrock_deployments
from tests.unit.deployment.conftest import (
    Deployments,
    account,
    deployments,
    moto_account,
    platform,
    running_account,
)
from tests.unit.emulator.bedrock import LITE, make_importable_model, upload

__all__ = ["account", "deployments", "moto_account", "platform", "running_account"]
pytestmark = pytest.mark.slow
CALLS, GROUP = 36, "/temper/dev/bedrock-invocations"
ON_CLOUDWATCH = {
    "cloudWatchConfig": {"logGroupName": GROUP, "roleArn": "arn:aws:iam::123456789012:role/a"}
}
Watch = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_importable_model(tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture(scope="module")
def pairs() -> list[dict[str, str]]:
    pairs = docstring_pairs(100 + CALLS)
    random.Random(0).shuffle(pairs)
    return pairs


@pytest.fixture
def watch(
    model: Path,
    pairs: list[dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Watch:
    """Return a function that watches a deployment of an account by the command line."""
    rows = write_jsonl(tmp_path / "rows.jsonl", pairs[:100])

    def run(of: DeploymentAccount, *arguments: str) -> tuple[int, dict[str, Any], str]:
        monkeypatch.setattr("monitoring.deployed.connect_account", lambda name: of)
        out = tmp_path / "watch"
        code = main([
            "watch", "support", "--env", "dev", "--out", str(out), "--window", "100",
            "--model", str(model), "--reference", str(rows), *arguments,
        ])  # fmt: skip
        report = out / "report.json"
        found = json.loads(report.read_text()) if report.exists() else {}
        return code, found, capsys.readouterr().err

    return run


@pytest.fixture
def bedrock(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BedrockDeployments]:
    # The account of these tests has Bedrock alone.
    kinds = tuple(kind for kind in deployed._KINDS if kind.startswith("bedrock"))
    monkeypatch.setattr(deployed, "_KINDS", kinds)
    timings = BedrockTimings(import_s=0, create_s=0, update_s=0, load_s=0)
    with bedrock_deployments(SystemClock(), time.sleep, tmp_path / "home", timings) as made:
        upload(made.here.s3, model)
        made.here.account("logs").create_log_group(logGroupName=GROUP)
        yield made


def deploy(made: BedrockDeployments, kind: str) -> tuple[DeploymentTarget, str]:
    """Deploy a version to Bedrock, and return the target and the ARN that serves it."""
    target = connect_target(kind, made.account)
    of_nova = {} if kind == "bedrock-import" else {"package": made.here.package()}
    return target, target.deploy(made.request(kind, made.model(**of_nova))).address


def call(made: BedrockDeployments, arn: str, prompts: list[str]) -> None:
    """Call a model by Converse, and by InvokeModel with and without a stream."""
    runtime = made.here.runtime
    for number, prompt in enumerate(prompts):
        body = json.dumps({"prompt": prompt, "max_tokens": 2, "temperature": 0})
        if number % 3 == 0:
            message = {"role": "user", "content": [{"text": prompt}]}
            runtime.converse(modelId=arn, messages=[message], inferenceConfig={"maxTokens": 2})
        elif number % 3 == 1:
            runtime.invoke_model(modelId=arn, body=body)
        else:
            answer = runtime.invoke_model_with_response_stream(modelId=arn, body=body)
            assert list(answer["body"])


def test_calls_of_bedrock_are_found_in_the_log_group_of_the_account(
    bedrock: BedrockDeployments, pairs: list[dict[str, str]], watch: Watch
) -> None:
    code, _, message = watch(bedrock.account)
    assert code == LogError.exit_code and "dev has no deployment of this name" in message
    target, arn = deploy(bedrock, "bedrock-import")
    code, _, message = watch(bedrock.account)
    assert code == LogError.exit_code and "does not log invocations of Bedrock" in message
    bedrock.here.bedrock.put_model_invocation_logging_configuration(
        loggingConfig={**ON_CLOUDWATCH, "textDataDeliveryEnabled": True}
    )
    code, _, message = watch(bedrock.account)
    assert code == LogError.exit_code and "the deployment had no call" in message
    assert isinstance(target, AnsweringTarget)
    target.ask("support", {"prompt": "a", "max_tokens": 1})  # waits until it is loaded
    call(bedrock, arn, [pair["prompt"] for pair in pairs[100:]])
    code, report, _ = watch(bedrock.account)
    assert code == 0
    (window,) = report["windows"]
    assert window["calls"] == CALLS + 1
    assert [one["model"] for one in report["usage"]] == [arn]
    assert report["usage"][0]["answer_tokens"] > 0


@pytest.mark.parametrize("kind", ["bedrock-on-demand", "bedrock-throughput"])
def test_calls_of_bedrock_are_found_in_the_bucket_of_the_account(
    kind: str, bedrock: BedrockDeployments, watch: Watch, tmp_path: Path
) -> None:
    here = bedrock.here
    here.s3.create_bucket(Bucket="invocations")
    in_bucket = {"s3Config": {"bucketName": "invocations", "keyPrefix": "team/a"}}
    put = here.bedrock.put_model_invocation_logging_configuration
    _, arn = deploy(bedrock, kind)
    put(loggingConfig={**in_bucket, "textDataDeliveryEnabled": False})
    code, _, message = watch(bedrock.account)
    assert code == LogError.exit_code and "textDataDeliveryEnabled: false" in message
    put(loggingConfig=in_bucket)
    code, _, message = watch(bedrock.account)
    assert code == LogError.exit_code and "has no object" in message
    # Another application's model, which has another training set.
    api = here.service.custom_models
    here.service.add_foundation_model(LITE, api.folder(api.models.all()[0]))
    call(bedrock, LITE, ["a", "b", "c"])
    code, _, message = watch(bedrock.account)
    assert code == LogError.exit_code and f"no call of {arn}" in message
    call(bedrock, arn, ["a", "b", "c", "d"])
    long = {"messages": [{"role": "user", "content": [{"text": "word " * 30_000}]}]}
    here.service.log.write("Converse", arn, (long, {}), (30_000, 0))
    options = WatchOptions("support", env="dev")
    watched = read_watched_log(options, None, tmp_path / "read")
    calls = choose_calls(watched, options, None)
    assert [call.prompt_text[:4] for call in calls] == ["a", "b", "c", "d", "word"]
    assert {call.model for call in calls} == {arn}
    assert len(calls[4].prompt_text) == 150_000, "its body is an object of its own"
    assert all(call.answer for call in calls[:4])


def test_captured_calls_of_an_endpoint_are_those_of_the_version_that_serves(
    deployments: Deployments, watch: Watch, pairs: list[dict[str, str]], monkeypatch: Any
) -> None:
    reply = json.dumps({"choices": [{"text": "yes", "finish_reason": "stop"}], "model": "support"})
    deployments.register("a", reply__json=reply)
    target = connect_target("endpoint", deployments.account)
    target.deploy(deployments.request("support@1.0.0"))
    code, _, message = watch(deployments.account)
    assert code == LogError.exit_code and "support captures no calls" in message
    target.undeploy("support")
    target.deploy(deployments.request("support@1.0.0", capture="50%"))
    monkeypatch.setattr("monitoring.watched_log._SKEW", timedelta(days=400))  # of the fake clock

    def ask(count: int) -> None:
        for number in range(count):
            prompt = pairs[100 + number % CALLS]["prompt"]
            deployments.hosted.ask(json.dumps({"prompt": prompt}), "temper-dev-support")
        deployments.hosted.advance(120)

    ask(2 * CALLS)
    code, report, message = watch(deployments.account, "--usd-per-hour", "1")
    assert code == 0 and report["windows"][0]["calls"] == CALLS
    assert "50% of the calls are logged" in message
    deployments.register("b", reply__json=reply)
    deployments.hosted.advance(3600)
    target.swap(deployments.request("support@1.0.1", capture="50%"))
    code, _, message = watch(deployments.account)
    assert code == LogError.exit_code
    assert "support@1.0.1 serves since about 20" in message
    assert f"{CALLS} calls before were answered by another version, and there is none" in message
    ask(4 * CALLS)
    code, report, message = watch(deployments.account)
    assert code == 0 and report["windows"][0]["calls"] == 2 * CALLS
    assert f"{CALLS} calls before were answered by another version, and are left out" in message
    target.undeploy("support")


def test_a_component_prints_its_requests_to_its_log_group(
    deployments: Deployments,
    watch: Watch,
    pairs: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("monitoring.watched_log._SKEW", timedelta(days=400))  # of the fake clock
    deployments.register("a")
    target = connect_target("component", deployments.account)
    target.deploy(deployments.request("support@1.0.0", to="component"))
    code, _, message = watch(deployments.account)
    assert code == LogError.exit_code
    assert "SageMaker does not capture" in message and "--setting LOG_REQUESTS=-" in message
    target.undeploy("support")
    printing = {"LOG_REQUESTS": "-"}
    target.deploy(deployments.request("support@1.0.0", to="component", settings=printing))
    logs = deployments.hosted.client("logs")
    place = {
        "logGroupName": "/aws/sagemaker/InferenceComponents/temper-dev-support",
        "logStreamName": "requests",
    }
    with suppress(ClientError):
        logs.create_log_group(logGroupName=place["logGroupName"])
    logs.create_log_stream(**place)
    now = datetime.fromtimestamp(deployments.hosted.clock.now(), UTC)
    records = [
        {
            "format": "temper-request",
            "id": str(number),
            "time": now.isoformat(),
            "model": "other" if number % 4 == 0 else "support",
            "request": {"prompt": pair["prompt"]},
            "answers": [{"text": "yes", "tokens": 1, "finish_reason": "stop"}],
        }
        for number, pair in enumerate(pairs[100:] * 2)
    ]
    stamp = int(time.time() * 1000)
    events = [{"timestamp": stamp, "message": json.dumps(one)} for one in records]
    logs.put_log_events(**place, logEvents=events)
    options = WatchOptions("support", env="dev")
    watched = read_watched_log(options, None, deployments.root / "read")
    calls = choose_calls(watched, options, None)
    assert len(calls) == CALLS * 2 * 3 // 4 and {call.model for call in calls} == {"support"}
    target.undeploy("support")
