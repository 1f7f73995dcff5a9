"""Judge at an endpoint that implements OpenAI's chat completions API.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import httpx2

from training.config.judges import OpenAiJudge
from training.data.schema.rows import Message
from training.judges.base import JudgeContext
from training.judges.http_client import HttpJudge, UnreadableError, read_api_key
from training.judges.reply_cache import JudgeReply


def build(section: OpenAiJudge, context: JudgeContext) -> HttpJudge:
    """Return the judge.

    Raises:
        RunError: The environment variable of its API key is not set.
    """
    headers = auth_headers(section, context)
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
        return parse_response(response)

    return HttpJudge(section, context, address=section.url, identity=section.url, call=call)


def auth_headers(section: OpenAiJudge, context: JudgeContext) -> dict[str, str]:
    """Return the headers of a call that carry its API key, if it needs one.

    Raises:
        RunError: The environment variable of the key is not set.
    """
    if not section.api_key_env:
        return {}
    return {"Authorization": f"Bearer {read_api_key(section.api_key_env, context)}"}


def parse_response(response: httpx2.Response) -> JudgeReply:
    """Return the reply in a response.

    Raises:
        UnreadableError: The response is not a chat completion.
    """
    try:
        body = response.json()
        choice, usage = body["choices"][0], body.get("usage") or {}
        return JudgeReply(
            str(choice["message"]["content"] or ""),
            int(usage.get("prompt_tokens", 0)),
            int(usage.get("completion_tokens", 0)),
            truncated=choice.get("finish_reason") == "length",
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        excerpt = " ".join(response.text[:120].split())
        raise UnreadableError(
            f"HTTP {response.status_code}, but no chat completion: {excerpt!r}. The url must end "
            f"before /chat/completions, as in http://localhost:8000/v1"
        ) from error
