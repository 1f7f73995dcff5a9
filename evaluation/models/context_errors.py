"""Recognition of the error with which an endpoint refuses a prompt that exceeds its context."""

from __future__ import annotations

import re

import httpx2

_STATUSES = (400, 413, 422, 500)
_CONTEXT = re.compile(
    # OpenAI's `error.code`.
    r"context_length_exceeded"
    # llama.cpp's `error.type`, and its message (https://github.com/ggml-org/llama.cpp/pull/15780).
    r"|exceed_context_size|exceeds? the available context size|context size has been exceeded"
    # vLLM: "This model's maximum context length is 4096 tokens. However, you requested …", and
    # "The decoder prompt (length 5000) is longer than the maximum model length of 4096".
    r"|maximum context length|longer than the maximum model length"
    # Gateways of other providers with OpenAI's API.
    r"|exceeds the context window|maximum prompt length is|reduce the length of the messages"
    # Bedrock's ValidationException: "Input is too long for requested model.", and models there.
    r"|input is too long|prompt is too long|too many input tokens|expected maxlength",
    re.IGNORECASE,
)


def exceeds_context(response: httpx2.Response) -> bool:
    """Return True if a response refuses a prompt because it does not fit the model's context."""
    return response.status_code in _STATUSES and bool(_CONTEXT.search(response.text))
