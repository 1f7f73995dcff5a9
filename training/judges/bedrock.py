"""A judge on Amazon Bedrock, through the Converse API over HTTPS.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html. Calls are signed
with what this process is known by in AWS, which in a training job is its role; or they bear a
Bedrock API key: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-use.html
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any
from urllib.parse import quote

import httpx2

from account.errors import AccountError
from account.sigv4 import SignedRequestAuth
from training.config.judges import BedrockJudge
from training.data.schema.rows import Message
from training.errors import RunError
from training.judges.base import JudgeContext
from training.judges.cost_ledger import JudgeReply
from training.judges.http_client import HttpJudge

_KEY = "AWS_BEARER_TOKEN_BEDROCK"


def build(section: BedrockJudge, place: JudgeContext) -> HttpJudge:
    """Return the judge.

    Raises:
        RunError: There is nothing to call it with.
    """
    known_by = _known_by(section, place)
    base = section.url or f"https://bedrock-runtime.{section.region}.amazonaws.com"
    address = f"{base.rstrip('/')}/model/{quote(section.model, safe='')}/converse"

    def call(client: httpx2.Client, question: list[Message]) -> JudgeReply:
        try:
            response = client.post(address, json=_body(section, question), auth=known_by)
        except AccountError as error:
            raise RunError(f"the {place.called} cannot be called: {error}") from error
        response.raise_for_status()
        said = response.json()
        parts = said["output"]["message"]["content"]
        usage = said.get("usage") or {}
        return JudgeReply(
            "".join(str(part.get("text", "")) for part in parts),
            int(usage.get("inputTokens", 0)),
            int(usage.get("outputTokens", 0)),
            cut=said.get("stopReason") == "max_tokens",
        )

    return HttpJudge(section, place, address=base, identity=base, call=call)


class _BearerAuth(httpx2.Auth):
    """Sends a key with each call."""

    def __init__(self, key: str):
        self._key = key

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Yield the request with the key."""
        request.headers["Authorization"] = f"Bearer {self._key}"
        yield request


def _known_by(section: BedrockJudge, place: JudgeContext) -> httpx2.Auth:
    if key := os.environ.get(_KEY):
        return _BearerAuth(key)
    try:
        return SignedRequestAuth("bedrock", section.region)
    except AccountError as error:
        raise RunError(
            f"the {place.called} on Bedrock cannot be called: {error}. A Bedrock API key in {_KEY} "
            f"would do as well"
        ) from error


def _body(section: BedrockJudge, question: list[Message]) -> dict[str, Any]:
    """Return a question in Converse's words: what the system says stands apart."""
    system = [{"text": m["content"]} for m in question if m["role"] == "system"]
    said = [
        {"role": m["role"], "content": [{"text": m["content"]}]}
        for m in question
        if m["role"] != "system"
    ]
    body: dict[str, Any] = {
        "messages": said,
        "inferenceConfig": {
            "maxTokens": section.max_new_tokens,
            "temperature": section.temperature,
        },
    }
    return {**body, "system": system} if system else body
