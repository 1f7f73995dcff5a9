"""A judge on Amazon Bedrock, through the Converse API over HTTPS.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html; the key is a
Bedrock API key: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-use.html
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx2

from training.config.judges import Bedrock
from training.data.rows import Message
from training.judges.judge import Place
from training.judges.ledger import Reply
from training.judges.remote import Remote, key_from

_KEY = "AWS_BEARER_TOKEN_BEDROCK"


def build(section: Bedrock, place: Place) -> Remote:
    """Return the judge.

    Raises:
        RunError: There is no key.
    """
    headers = {"Authorization": f"Bearer {key_from(_KEY, place)}"}
    base = section.url or f"https://bedrock-runtime.{section.region}.amazonaws.com"
    address = f"{base.rstrip('/')}/model/{quote(section.model, safe='')}/converse"

    def call(client: httpx2.Client, question: list[Message]) -> Reply:
        response = client.post(address, json=_body(section, question), headers=headers)
        response.raise_for_status()
        said = response.json()
        parts = said["output"]["message"]["content"]
        usage = said.get("usage") or {}
        return Reply(
            "".join(str(part.get("text", "")) for part in parts),
            int(usage.get("inputTokens", 0)),
            int(usage.get("outputTokens", 0)),
            cut=said.get("stopReason") == "max_tokens",
        )

    return Remote(section, place, address=base, identity=base, call=call)


def _body(section: Bedrock, question: list[Message]) -> dict[str, Any]:
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
