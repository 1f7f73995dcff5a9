"""Evaluator of SageMaker's hub, by which serverless customization finds the function of a grader.

The document was read from the SageMaker Python SDK (github.com/aws/sagemaker-python-sdk:
sagemaker-train/src/sagemaker/ai_registry/evaluator.py).
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

from launch.aws.platform_parameters import PlatformParameters
from launch.aws.session import AwsSession, accept_existing, explain_aws_errors, says_not_found
from launch.errors import LaunchError

_TYPE, _VERSION, _SCHEMA = "JsonDoc", "1.0.0", "2.0.0"
_TAKEN = ("ResourceInUse",)
_POLL_S, _PATIENCE_S = 2.0, 300.0
_FAILED = ("ImportFailed", "DeleteFailed")


def hub_name(platform: PlatformParameters) -> str:
    """Return the name of the environment's private hub, which holds its evaluators."""
    return f"{platform.environment.prefix}-graders"


def evaluator_request(run: str, function: str, platform: PlatformParameters) -> dict[str, Any]:
    """Return the ImportHubContent request of a run's evaluator.

    Args:
        run: Name of the run.
        function: ARN of the function of its grader.
        platform: Parameters of the environment.
    """
    content = {"Reference": function, "EvaluatorType": "RewardFunction"}
    keywords = {
        "method": "lambda",
        "@subtype": "aws/evaluator",
        "@evaluatortype": "rewardfunction",
        "@contenttype": "byolambda",
    }
    return {
        "HubName": hub_name(platform),
        "HubContentType": _TYPE,
        "HubContentName": _content_name(run),
        "HubContentVersion": _VERSION,
        "DocumentSchemaVersion": _SCHEMA,
        "HubContentDocument": json.dumps(
            {"SubType": "AWS/Evaluator", "JsonContent": json.dumps(content)}
        ),
        "HubContentSearchKeywords": [f"{name}:{value}" for name, value in keywords.items()],
    }


def deploy_evaluator(
    account: AwsSession, run: str, function: str, platform: PlatformParameters
) -> str:
    """Create a run's evaluator, or find the one that an earlier attempt created; return its ARN.

    Args:
        account: Session of the environment's account.
        run: Name of the run.
        function: ARN of the function of its grader.
        platform: Parameters of the environment.

    Raises:
        LaunchError: It cannot be created.
    """
    client, hub = account.client("sagemaker"), hub_name(platform)
    with (
        explain_aws_errors(f"creating the hub {hub}"),
        accept_existing(lambda: None, _TAKEN),
    ):
        client.create_hub(HubName=hub, HubDescription="Evaluators of rewards, made by temper")
    request = evaluator_request(run, function, platform)
    name = request["HubContentName"]
    with (
        explain_aws_errors(f"creating the evaluator {name}"),
        accept_existing(lambda: _find(account, run, platform), _TAKEN),
    ):
        client.import_hub_content(**request)
    end = time.monotonic() + _PATIENCE_S
    while True:
        content = _find(account, run, platform) or {}
        status = content.get("HubContentStatus")
        if status == "Available":
            return str(content["HubContentArn"])
        if status in _FAILED or time.monotonic() > end:
            raise LaunchError(
                f"the evaluator {name} is {status or 'missing'}: "
                f"{content.get('FailureReason', 'no reason is given')}. Run the same command again"
            )
        time.sleep(_POLL_S)


def delete_evaluator(account: AwsSession, run: str, platform: PlatformParameters) -> None:
    """Delete a run's evaluator, if it has one.

    Args:
        account: Session of the environment's account.
        run: Name of the run.
        platform: Parameters of the environment.

    Raises:
        LaunchError: It cannot be deleted.
    """
    name = _content_name(run)
    with explain_aws_errors(f"deleting the evaluator {name}", ignore=says_not_found):
        account.client("sagemaker").delete_hub_content(
            HubName=hub_name(platform),
            HubContentType=_TYPE,
            HubContentName=name,
            HubContentVersion=_VERSION,
        )


def _find(account: AwsSession, run: str, platform: PlatformParameters) -> dict[str, Any] | None:
    name = _content_name(run)
    with explain_aws_errors(f"describing the evaluator {name}", ignore=says_not_found):
        return dict(
            account.client("sagemaker").describe_hub_content(
                HubName=hub_name(platform), HubContentType=_TYPE, HubContentName=name
            )
        )
    return None


def _content_name(run: str) -> str:
    return f"grader-{hashlib.sha256(run.encode()).hexdigest()[:12]}"
