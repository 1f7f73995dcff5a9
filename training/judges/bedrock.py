"""Judge on Amazon Bedrock, called through the Converse API over HTTPS.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html. Calls are signed
with the AWS credentials of this process, which are those of the job's role in a training job.
Alternatively a Bedrock API key authenticates them:
https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-use.html
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx2

from account.bedrock_auth import API_KEY_VARIABLE, bedrock_auth
from account.errors import AccountError
from training.config.judges import BedrockJudge, JudgeSection
from training.data.schema.rows import Message
from training.errors import RunError
from training.judges.base import JudgeContext
from training.judges.http_client import HttpJudge
from training.judges.reply_cache import JudgeReply


def build(section: BedrockJudge, context: JudgeContext) -> HttpJudge:
    """Return the judge.

    Raises:
        RunError: Neither AWS credentials nor a Bedrock API key are available.
    """
    auth = converse_auth(section, context)
    base, address = converse_addresses(section)

    def call(client: httpx2.Client, question: list[Message]) -> JudgeReply:
        try:
            response = client.post(address, json=converse_body(section, question), auth=auth)
        except AccountError as error:
            raise RunError(f"the {context.role} cannot be called: {error}") from error
        response.raise_for_status()
        return parse_converse(response.json())

    return HttpJudge(section, context, address=base, identity=base, call=call)


def converse_addresses(section: BedrockJudge) -> tuple[str, str]:
    """Return the address of the service and that of a model's Converse calls."""
    base = section.url or f"https://bedrock-runtime.{section.region}.amazonaws.com"
    # A model may be an ARN with slashes, which have to be escaped in the path.
    return base, f"{base.rstrip('/')}/model/{quote(section.model, safe='')}/converse"


def converse_auth(section: BedrockJudge, context: JudgeContext) -> httpx2.Auth:
    """Return the authentication of Converse calls.

    Raises:
        RunError: Neither AWS credentials nor a Bedrock API key are available.
    """
    try:
        return bedrock_auth(section.region)
    except AccountError as error:
        raise RunError(
            f"the {context.role} on Bedrock cannot be called: {error}. Alternatively, set a "
            f"Bedrock API key in {API_KEY_VARIABLE}"
        ) from error


def parse_converse(body: dict[str, Any]) -> JudgeReply:
    """Return the reply in the response of a Converse call."""
    content = body["output"]["message"]["content"]
    usage = body.get("usage") or {}
    return JudgeReply(
        "".join(str(block.get("text", "")) for block in content),
        int(usage.get("inputTokens", 0)),
        int(usage.get("outputTokens", 0)),
        truncated=body.get("stopReason") == "max_tokens",
    )


def converse_body(section: JudgeSection, question: list[Message]) -> dict[str, Any]:
    """Return the body of a Converse call, which takes system messages in a field of their own."""
    system = [{"text": m["content"]} for m in question if m["role"] == "system"]
    messages = [
        {"role": m["role"], "content": [{"text": m["content"]}]}
        for m in question
        if m["role"] != "system"
    ]
    body: dict[str, Any] = {
        "messages": messages,
        "inferenceConfig": {
            "maxTokens": section.max_new_tokens,
            "temperature": section.temperature,
        },
    }
    return {**body, "system": system} if system else body
