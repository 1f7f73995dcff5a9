"""Requests to a deployment on Bedrock, which is found by its name."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from deployment.golden_answers import Ask

_LOAD_S, _PAUSE_S = 300, 15
"""A model that was not called for long is loaded first, which takes minutes."""
Client = Callable[[str], Any]


def ask_model(
    kind: str, resource: str, name: str, client: Client, sleep: Callable[[float], None]
) -> Ask | None:
    """Return what asks a deployment; None if there is none.

    Args:
        kind: Kind of the deployment.
        resource: Name of its resource, or the stem of the names of its imported models.
        name: Name of the deployment.
        client: Factory of clients by service name.
        sleep: Waits for some seconds.
    """
    arn = _arn(kind, resource, name, client("bedrock"))
    if arn is None:
        return None
    runtime = client("bedrock-runtime")
    if kind != "bedrock-import":
        return lambda body: _converse(runtime, arn, body)
    return lambda body: _invoke(runtime, arn, body, sleep)


def _arn(kind: str, resource: str, name: str, bedrock: Any) -> str | None:
    """Return the ARN that serves a deployment; None if there is none.

    Raises:
        ClientError: It cannot be read.
    """
    if kind == "bedrock-import":
        return _imported(resource, name, bedrock)
    try:
        if kind == "bedrock-on-demand":
            found = bedrock.get_custom_model_deployment(customModelDeploymentIdentifier=resource)
            return str(found["customModelDeploymentArn"])
        found = bedrock.get_provisioned_model_throughput(provisionedModelId=resource)
        return str(found["provisionedModelArn"])
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return None
        raise


def _imported(resource: str, name: str, bedrock: Any) -> str | None:
    """Return the ARN of the model of a deployment that was put in place last."""
    placed = {}
    for page in bedrock.get_paginator("list_imported_models").paginate(nameContains=resource):
        for model in page["modelSummaries"]:
            answer = bedrock.list_tags_for_resource(resourceARN=model["modelArn"])
            tags = {tag["key"]: tag["value"] for tag in answer["tags"]}
            if tags.get("temper:deployment") == name:
                placed[tags.get("temper:since", "")] = str(model["modelArn"])
    return placed[max(placed)] if placed else None


def _invoke(
    runtime: Any, arn: str, body: Mapping[str, Any], sleep: Callable[[float], None]
) -> Mapping[str, Any]:
    """Return the answer of an imported model, after it is loaded.

    Raises:
        ClientError: It refuses the request, or is not loaded in time.
    """
    waited = 0
    while True:
        try:
            answer = runtime.invoke_model(
                modelId=arn,
                contentType="application/json",
                accept="application/json",
                body=json.dumps(body).encode(),
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ModelNotReadyException" or waited >= _LOAD_S:
                raise
            sleep(_PAUSE_S)
            waited += _PAUSE_S
        else:
            response: Mapping[str, Any] = json.loads(answer["body"].read())
            return response


def _converse(runtime: Any, arn: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the answer of Converse in OpenAI's form; it has no log-probabilities."""
    messages = body.get("messages") or [{"role": "user", "content": body.get("prompt", "")}]
    parts = [(one["role"], [{"text": one["content"]}]) for one in messages]
    system = [block for role, blocks in parts if role == "system" for block in blocks]
    answer = runtime.converse(
        modelId=arn,
        messages=[{"role": role, "content": c} for role, c in parts if role != "system"],
        inferenceConfig={"maxTokens": body["max_tokens"], "temperature": 0.0},
        **({"system": system} if system else {}),
    )
    text = "".join(block.get("text", "") for block in answer["output"]["message"]["content"])
    choice = {"message": {"role": "assistant", "content": text}, "text": text}
    return {"choices": [choice]}
