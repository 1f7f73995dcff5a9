"""Exchange of calls and answers with endpoints, which whole answers and streams share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx2

from client.call_context import CallContext
from client.chat import (
    CallSettings,
    ChatAnswer,
    ChatCall,
    Conversation,
    ModelReply,
    build_call,
)
from client.endpoint_caller import EndpointCaller, OpenedStream
from client.endpoints.base import ChatEndpoint
from client.guardrails import check_answer, check_prompt
from client.masking import MaskedCall
from client.response_cache import call_key
from client.routing import first_answer
from client.settings import ClientSettings
from client.shared_calls import SharedCalls

_CONNECT_TIMEOUT_S = 10.0


class ChatExchange:
    """Exchange of calls and answers with one endpoint or several.

    Args:
        endpoints: The endpoints, in the order in which they are asked.
        settings: Settings of the client.

    Attributes:
        settings: Settings of the client.
        callers: Caller of each endpoint.
    """

    def __init__(self, endpoints: Sequence[ChatEndpoint], settings: ClientSettings):
        self.settings = settings
        self.callers = [EndpointCaller(endpoint, settings) for endpoint in endpoints]
        self._shared: SharedCalls[ModelReply] = SharedCalls()
        self._slots = asyncio.Semaphore(settings.max_concurrency)
        timeout = httpx2.Timeout(
            settings.attempt_timeout_s,
            connect=min(_CONNECT_TIMEOUT_S, settings.attempt_timeout_s),
            pool=None,
        )
        # A hedged call has two connections.
        limits = httpx2.Limits(max_connections=2 * settings.max_concurrency)
        self._http = httpx2.AsyncClient(timeout=timeout, limits=limits)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    @asynccontextmanager
    async def context(
        self, messages: Conversation, settings: CallSettings
    ) -> AsyncIterator[CallContext]:
        """Yield a call that may be sent: checked, masked, and examined by the guardrails.

        Args:
            messages: The conversation.
            settings: Settings of the call.

        Raises:
            ClientError: It may not be sent.
        """
        call = build_call(messages, settings)
        timeout_s = settings.get("timeout_s", self.settings.timeout_s)
        async with self._slots:
            started = time.monotonic()
            mask = self.settings.mask
            # The recognizer computes for milliseconds, in which other calls continue.
            masked = (
                MaskedCall(call, {}) if mask is None else await asyncio.to_thread(mask.mask, call)
            )
            context = CallContext(masked, timeout_s, self.settings.metrics, started)
            try:
                await check_prompt(self.settings.guardrails, masked.call)
                yield context
            except BaseException as error:
                context.record(error)
                raise
            context.record(None)

    async def answer(self, context: CallContext) -> ChatAnswer:
        """Return the answer to a call.

        Args:
            context: The call.

        Raises:
            ClientError: It is not answered, or a guardrail refuses the answer.
        """
        call = context.call

        async def ask(caller: EndpointCaller, deadline: float) -> tuple[ModelReply, bool]:
            endpoint = caller.endpoint
            if (cached := self.cached(endpoint, call)) is not None:
                return cached, True

            async def send() -> ModelReply:
                return await caller.answer(self._http, call, deadline, context.progress)

            if not call.is_deterministic:
                return await send(), False
            reply, joined = await self._shared.run(call_key(endpoint.identity, call), send)
            if not joined:
                self.store(endpoint, call, reply)
            return reply, joined

        caller, (reply, from_cache) = await first_answer(self.callers, context, ask)
        text = await check_answer(self.settings.guardrails, call, reply.text)
        return context.answer(caller.endpoint, reply, text, from_cache)

    async def open_stream(
        self, context: CallContext
    ) -> tuple[EndpointCaller, OpenedStream | ModelReply]:
        """Return the endpoint that answers a call, and its stream or a cached answer.

        Args:
            context: The call.

        Raises:
            ClientError: It is not answered.
        """

        async def ask(caller: EndpointCaller, deadline: float) -> OpenedStream | ModelReply:
            cached = self.cached(caller.endpoint, context.call)
            if cached is not None:
                return cached
            return await caller.open_stream(self._http, context.call, deadline, context.progress)

        return await first_answer(self.callers, context, ask)

    def cached(self, endpoint: ChatEndpoint, call: ChatCall) -> ModelReply | None:
        """Return the cached answer of an endpoint to a call, or None."""
        if self.settings.cache is None or not call.is_deterministic:
            return None
        return self.settings.cache.get(endpoint.identity, call)

    def store(self, endpoint: ChatEndpoint, call: ChatCall, reply: ModelReply) -> None:
        """Store the answer of an endpoint, if a cache keeps it.

        Args:
            endpoint: The endpoint.
            call: The call.
            reply: The answer.
        """
        if self.settings.cache is not None and call.is_deterministic:
            self.settings.cache.put(endpoint.identity, call, reply)
