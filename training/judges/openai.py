"""A judge at an endpoint that speaks OpenAI's chat protocol.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import httpx2

from training.config.judges import OpenAiJudge
from training.data.schema.rows import Message
from training.judges.base import JudgeContext
from training.judges.cost_ledger import JudgeReply
from training.judges.http_client import HttpJudge, UnreadableError, key_from


def build(section: OpenAiJudge, place: JudgeContext) -> HttpJudge:
    """Return the judge.

    Raises:
        RunError: The environment variable with its key is not set.
    """
    headers = {}
    if section.api_key_env:
        headers["Authorization"] = f"Bearer {key_from(section.api_key_env, place)}"
    address = f"{section.url.rstrip('/')}/chat/completions"

    def call(client: httpx2.Client, question: list[Message]) -> JudgeReply:
        body = {
            "model": section.model,
            "messages": question,
            "temperature": section.temperature,
            "max_tokens": section.max_new_tokens,
        }
        response = client.post(address, json=body, headers=headers)
        response.raise_for_status()
        return read(response)

    return HttpJudge(section, place, address=section.url, identity=section.url, call=call)


def read(response: httpx2.Response) -> JudgeReply:
    """Return what an endpoint says.

    Raises:
        UnreadableError: It is not in the protocol's form.
    """
    try:
        said = response.json()
        choice, usage = said["choices"][0], said.get("usage") or {}
        return JudgeReply(
            str(choice["message"]["content"] or ""),
            int(usage.get("prompt_tokens", 0)),
            int(usage.get("completion_tokens", 0)),
            cut=choice.get("finish_reason") == "length",
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        begins = " ".join(response.text[:120].split())
        raise UnreadableError(
            f"HTTP {response.status_code}, but no chat completion: {begins!r}. Does url end where "
            f"/chat/completions follows, as in http://localhost:8000/v1?"
        ) from error
