"""Replay of a deployment's golden prompts: other answers mean another model, template or setting.

The prompts and their recorded answers are an object in the bucket of runs; `temper watch --golden`
compares with the same code. Metrics are lines in CloudWatch's embedded metric format. If the
function fails, there is no metric, which the alarm takes for a fault as well.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from account.emf import emf_line
from deployment.golden_answers import (
    Ask,
    NoAnswerError,
    ask_answer,
    difference_of,
    golden_metrics,
    parse_golden,
)

from . import bedrock

_SHOWN = 5
# A copy that starts, or a model that Bedrock loads, answers late; the function ends after minutes.
_CONFIG = Config(read_timeout=60, retries={"mode": "standard", "total_max_attempts": 3})


@dataclass(frozen=True)
class GoldenSettings:
    """Settings of a replay, from the environment variable `SETTINGS`.

    Attributes:
        name: Name of the deployment.
        kind: `endpoint`, `component`, `bedrock-import`, `bedrock-on-demand` or
            `bedrock-throughput`.
        resource: Name of the endpoint, and the stem of the names of what Bedrock serves.
        component: Name of the inference component; empty without one.
        bucket: Bucket of the golden prompts.
        key: Key of the golden prompts.
        namespace: Namespace of the metrics.
        tolerance: Largest difference of a log-probability.
        min_agreement: Least share of answers that are as recorded.
        most: Most prompts of a replay, from the first on.
    """

    name: str
    kind: str
    resource: str
    component: str
    bucket: str
    key: str
    namespace: str
    tolerance: float
    min_agreement: float
    most: int


def handler(event: object, context: object) -> dict[str, Any]:
    """Run as the Lambda entry point."""
    settings = GoldenSettings(**json.loads(os.environ["SETTINGS"]))
    return replay(settings, lambda service: boto3.client(service, config=_CONFIG), time.sleep)


def replay(
    settings: GoldenSettings, client: Callable[[str], Any], sleep: Callable[[float], None]
) -> dict[str, Any]:
    """Ask the golden prompts, publish how many answers are as recorded, and return it.

    A deployment that does not exist, or has no copy, is not asked: that would wake it.

    Args:
        settings: Settings of the replay.
        client: Factory of clients by service name.
        sleep: Waits for some seconds.

    Raises:
        RuntimeError: There are no golden prompts.
    """
    body = client("s3").get_object(Bucket=settings.bucket, Key=settings.key)["Body"].read()
    prompts, problems = parse_golden(body.decode())
    if problems or not prompts:
        found = "; ".join(problems[:_SHOWN]) or "it is empty"
        raise RuntimeError(f"s3://{settings.bucket}/{settings.key} cannot be used: {found}")
    ask = _ask(settings, client, sleep)
    if ask is None:
        _publish(settings, {"GoldenAlarm": (0, "Count")}, Skipped="nothing serves")
        return {"outcome": "nothing serves"}
    prompts = prompts[: settings.most]
    differences = []
    for prompt in prompts:
        try:
            answer = ask_answer(prompt, ask)
            difference = difference_of(prompt.answer, answer, settings.tolerance)
        except (NoAnswerError, BotoCoreError, ClientError, ValueError) as error:
            difference = f"no answer: {error}"
        if difference:
            differences.append(f"line {prompt.line}: {difference}")
    agreed = len(prompts) - len(differences)
    passed = agreed >= settings.min_agreement * len(prompts)
    shown = differences[:_SHOWN]
    metrics = golden_metrics(agreed, len(prompts), passed=passed)
    _publish(settings, metrics, Prompts=len(prompts), Differences=shown)
    return {"outcome": "as recorded" if passed else "differs", "differences": shown}


def _ask(
    settings: GoldenSettings, client: Callable[[str], Any], sleep: Callable[[float], None]
) -> Ask | None:
    """Return what asks the deployment; None if nothing serves it now."""
    if settings.kind.startswith("bedrock"):
        return bedrock.ask_model(settings.kind, settings.resource, settings.name, client, sleep)
    more = {}
    if settings.component:
        sagemaker = client("sagemaker")
        described = sagemaker.describe_inference_component(
            InferenceComponentName=settings.component
        )
        if described.get("RuntimeConfig", {}).get("CurrentCopyCount") == 0:
            return None
        more = {"InferenceComponentName": settings.component}

    def ask(body: Mapping[str, Any]) -> Mapping[str, Any]:
        answer = client("sagemaker-runtime").invoke_endpoint(
            EndpointName=settings.resource,
            ContentType="application/json",
            Accept="application/json",
            Body=json.dumps(body).encode(),
            **more,
        )
        response: Mapping[str, Any] = json.loads(answer["Body"].read())
        return response

    return ask


def _publish(
    settings: GoldenSettings, metrics: Mapping[str, tuple[float, str]], **properties: Any
) -> None:
    dimensions = {"Deployment": settings.name}
    line = emf_line(settings.namespace, dimensions, metrics, properties=properties)
    sys.stdout.write(line + "\n")
