"""SageMaker endpoint whose container takes OpenAI's chat completions, as `temper serve` and vLLM.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2

from account.sigv4 import SignedRequestAuth
from client.chat import AnswerDelta, ChatCall, ModelReply
from client.endpoints.aws_access import aws_address
from client.endpoints.aws_stream import stream_events
from client.endpoints.base import ChatEndpoint, HttpCall
from client.endpoints.openai_protocol import DONE, chat_body, parse_chat, parse_event
from client.errors import InvalidArgumentError, UnavailableError
from client.prices import TokenRates

_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_PREFIX_ID = re.compile(r"\S[ -~]{0,63}")


class SageMakerEndpoint(ChatEndpoint):
    """SageMaker endpoint.

    Args:
        endpoint: Name of the endpoint.
        component: Inference component, for an endpoint that has several; a component of an adapter
            answers with the adapter.
        model: Model or adapter that the container is asked for; None for its own.
        region: Region; that of the environment or the profile if it is left out.
        name: Name in messages, metrics and answers.
        price: Prices of its tokens; an endpoint is paid by the hour, so None is usual.
        prefix_id: Identifier of this application, by which an endpoint with the routing strategy
            `PREFIX_AWARE` sends prompts with one beginning to one instance.

    Raises:
        InvalidArgumentError: A name is none, or the Region is not known.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        component: str | None = None,
        model: str | None = None,
        region: str | None = None,
        name: str | None = None,
        price: TokenRates | None = None,
        prefix_id: str | None = None,
    ):
        named = {"endpoint": endpoint, "component": component}
        problems = [
            f"{key} is a name of letters, digits and hyphens, at most 63 (got {value!r})"
            for key, value in named.items()
            if value is not None and not _NAME.fullmatch(value)
        ]
        if prefix_id is not None and not _PREFIX_ID.fullmatch(prefix_id):
            problems.append(f"prefix_id has 1 to 64 printable characters (got {prefix_id!r})")
        if problems:
            raise InvalidArgumentError(problems)
        super().__init__(name or component or endpoint, price)
        base, self._region = aws_address("sagemaker-runtime", region)
        self._address = f"{base}/endpoints/{endpoint}/invocations"
        self._model = model
        headers = {
            "X-Amzn-SageMaker-Inference-Component": component,
            "X-Amzn-SageMaker-Prefix-Aware-Id": prefix_id,
        }
        self._headers = {key: value for key, value in headers.items() if value is not None}
        self._auth: SignedRequestAuth | None = None

    @property
    def identity(self) -> tuple[str, ...]:
        """All that determines an answer in addition to the call."""
        component = self._headers.get("X-Amzn-SageMaker-Inference-Component", "")
        return ("sagemaker", self._address, component, self._model or "")

    def request(self, call: ChatCall, stream: bool) -> HttpCall:
        """Return the request of a call."""
        if self._auth is None:
            self._auth = SignedRequestAuth("sagemaker", self._region)
        address = f"{self._address}-response-stream" if stream else self._address
        body = chat_body(call, self._model, stream)
        return HttpCall(address, body, self._headers, self._auth)

    def parse(self, body: Any) -> ModelReply:
        """Return the reply in a response."""
        return parse_chat(body)

    async def deltas(self, response: httpx2.Response) -> AsyncIterator[AnswerDelta]:
        """Yield the parts of a streamed response.

        Raises:
            UnavailableError: The container does not stream.
        """
        parts = 0
        # The payloads of AWS's events are the container's response, cut anywhere.
        inner = httpx2.Response(
            response.status_code,
            headers={"Content-Type": "text/event-stream"},
            content=self._payloads(response),
            request=response.request,
        )
        async for event in httpx2.EventSource(inner):
            if event.data == DONE:
                return
            parts += 1
            delta = parse_event(self.name, event.data)
            if delta is not None:
                yield delta
        if not parts:
            raise UnavailableError(f"{self.name} sent a stream without server-sent events")

    async def _payloads(self, response: httpx2.Response) -> AsyncIterator[bytes]:
        async for event in stream_events(self.name, response):
            yield event.payload
