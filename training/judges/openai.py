"""A judge at an endpoint that speaks OpenAI's chat protocol.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import httpx2

from training.config.judges import OpenAi
from training.data.rows import Message
from training.judges.judge import Place
from training.judges.ledger import Reply
from training.judges.remote import Remote, key_from


def build(section: OpenAi, place: Place) -> Remote:
    """Return the judge.

    Raises:
        RunError: The environment variable with its key is not set.
    """
    headers = {}
    if section.api_key_env:
        headers["Authorization"] = f"Bearer {key_from(section.api_key_env, place)}"
    address = f"{section.url.rstrip('/')}/chat/completions"

    def call(client: httpx2.Client, question: list[Message]) -> Reply:
        body = {
            "model": section.model,
            "messages": question,
            "temperature": section.temperature,
            "max_tokens": section.max_new_tokens,
        }
        response = client.post(address, json=body, headers=headers)
        response.raise_for_status()
        said = response.json()
        choice, usage = said["choices"][0], said.get("usage") or {}
        return Reply(
            str(choice["message"]["content"] or ""),
            int(usage.get("prompt_tokens", 0)),
            int(usage.get("completion_tokens", 0)),
            cut=choice.get("finish_reason") == "length",
        )

    return Remote(section, place, address=section.url, identity=section.url, call=call)
