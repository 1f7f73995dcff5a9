"""Bodies of OpenAI's chat completions: requests, responses, parts of a stream.

https://platform.openai.com/docs/api-reference/chat. SageMaker endpoints of `temper serve` and of
vLLM take the same bodies.
"""

from __future__ import annotations

import json
from typing import Any

from client.chat import AnswerDelta, ChatCall, ModelReply, TokenUsage
from client.endpoints.http_errors import classified

DONE = "[DONE]"


def chat_body(call: ChatCall, model: str | None, stream: bool) -> dict[str, Any]:
    """Return the body of a request.

    Args:
        call: The call.
        model: Name of the model or adapter; None leaves it out.
        stream: Whether the answer is streamed, with its tokens in a last part.
    """
    settings = {
        "model": model,
        "max_tokens": call.max_tokens,
        "temperature": call.temperature,
        "top_p": call.top_p,
        "seed": call.seed,
        "stop": list(call.stop) or None,
    }
    body: dict[str, Any] = {"messages": [dict(message) for message in call.messages]}
    body |= {key: value for key, value in settings.items() if value is not None}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return {**body, **call.extra}


def parse_chat(body: Any) -> ModelReply:
    """Return the reply in a response."""
    choice = body["choices"][0]
    message = choice["message"]
    return ModelReply(
        message.get("content") or "",
        choice.get("finish_reason") or "stop",
        _usage(body.get("usage") or {}),
        tuple(message.get("tool_calls") or ()),
    )


def parse_event(name: str, data: str) -> AnswerDelta | None:
    """Return the part in an event of a stream; None if it holds nothing.

    Args:
        name: Name of the endpoint.
        data: Data of the event.

    Raises:
        EndpointError: The event says that the answer failed.
    """
    event = json.loads(data)
    if (error := event.get("error")) is not None:
        detail = error if isinstance(error, dict) else {"message": error}
        status = detail.get("status", detail.get("code"))
        status = status if isinstance(status, int) and 400 <= status < 600 else 500
        message = " ".join(str(detail.get("message", "")).split())[:300]
        failure = classified(name, status, "", message)
        raise failure
    usage = _usage(event["usage"]) if event.get("usage") else None
    if not event["choices"]:
        return None if usage is None else AnswerDelta(usage=usage)
    choice = event["choices"][0]
    delta = choice.get("delta") or {}
    return AnswerDelta(
        delta.get("content") or "",
        choice.get("finish_reason"),
        usage,
        tuple(delta.get("tool_calls") or ()),
    )


def _usage(usage: dict[str, Any]) -> TokenUsage:
    details = usage.get("prompt_tokens_details") or {}
    cached = int(details.get("cached_tokens") or 0)
    prompt = int(usage.get("prompt_tokens") or 0)
    return TokenUsage(prompt - cached, int(usage.get("completion_tokens") or 0), cached)
