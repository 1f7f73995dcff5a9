"""Requests to an endpoint, in OpenAI's protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from deployment.account import DeploymentAccount
from deployment.errors import DeployModelError
from launch.aws.session import explain_aws_errors


def invoke_endpoint(
    account: DeploymentAccount, endpoint: str, body: Mapping[str, Any], component: str | None = None
) -> dict[str, Any]:
    """Return the answer of an endpoint.

    Args:
        account: Account of the endpoint.
        endpoint: Name of the endpoint.
        body: Body of a request.
        component: Name of the inference component.

    Raises:
        DeployModelError: The answer is not a JSON object.
    """
    more = {"InferenceComponentName": component} if component else {}
    with explain_aws_errors(f"asking {component or endpoint}"):
        answer = account.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=endpoint,
            ContentType="application/json",
            Accept="application/json",
            Body=json.dumps(body).encode(),
            **more,
        )
        text = answer["Body"].read().decode("utf-8", errors="replace")
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise DeployModelError(f"{component or endpoint} did not answer with JSON: {text[:200]}")
    return content
