"""Endpoint with OpenAI's API: `temper serve`, vLLM, llama.cpp, OpenAI."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx2

from client.chat import AnswerDelta, ChatCall, ModelReply
from client.endpoints.base import ChatEndpoint, HttpCall
from client.endpoints.openai_protocol import DONE, chat_body, parse_chat, parse_event
from client.errors import AccessRefusedError, InvalidArgumentError
from client.prices import TokenRates


class OpenAiEndpoint(ChatEndpoint):
    """Endpoint with OpenAI's API.

    Args:
        url: Base address, such as http://127.0.0.1:8000/v1.
        model: Name of the model or adapter.
        api_key_env: Environment variable with the key; None if it needs none.
        name: Name in messages, metrics and answers; the model if it is left out.
        price: Prices of its tokens.
        prompt_cache: Whether calls with the same beginning ask for the same replica, and so for
            its prompt cache (`prompt_cache_key`).

    Raises:
        InvalidArgumentError: The address is none.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key_env: str | None = None,
        name: str | None = None,
        price: TokenRates | None = None,
        prompt_cache: bool = False,
    ):
        super().__init__(name or model, price)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidArgumentError(
                [f"url is an address such as http://127.0.0.1:8000/v1 (got {url!r})"]
            )
        self._url, self._model = url.rstrip("/"), model
        self._api_key_env, self._prompt_cache = api_key_env, prompt_cache

    @property
    def identity(self) -> tuple[str, ...]:
        """All that determines an answer in addition to the call."""
        return ("openai", self._url, self._model)

    def request(self, call: ChatCall, stream: bool) -> HttpCall:
        """Return the request of a call.

        Raises:
            AccessRefusedError: The variable of the key is not set.
        """
        body = chat_body(call, self._model, stream)
        if self._prompt_cache:
            body["prompt_cache_key"] = prefix_digest(call)
        headers = {}
        if self._api_key_env is not None:
            key = os.environ.get(self._api_key_env, "").strip()
            if not key:
                raise AccessRefusedError(
                    f"the environment variable {self._api_key_env}, which holds the key of "
                    f"{self.name}, is not set"
                )
            headers["Authorization"] = f"Bearer {key}"
        return HttpCall(f"{self._url}/chat/completions", body, headers)

    def parse(self, body: Any) -> ModelReply:
        """Return the reply in a response."""
        return parse_chat(body)

    async def deltas(self, response: httpx2.Response) -> AsyncIterator[AnswerDelta]:
        """Yield the parts of a streamed response."""
        async for event in httpx2.EventSource(response):
            if event.data == DONE:
                return
            delta = parse_event(self.name, event.data)
            if delta is not None:
                yield delta


def prefix_digest(call: ChatCall) -> str:
    """Return a digest of the beginning of a conversation, up to its first user message.

    Turns of one conversation, and conversations under one system prompt with the same examples,
    share it.
    """
    beginning = []
    for message in call.messages:
        beginning.append(dict(message))
        if message["role"] == "user":
            break
    return hashlib.sha256(json.dumps(beginning, sort_keys=True).encode()).hexdigest()[:32]
