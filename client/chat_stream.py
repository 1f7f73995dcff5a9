"""Answer as a stream of its parts."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Self

from client.call_context import CallContext
from client.chat import AnswerDelta, CallSettings, ChatAnswer, Conversation, ModelReply, TokenUsage
from client.endpoint_caller import EndpointCaller, OpenedStream
from client.errors import EndpointError, StreamInterruptedError
from client.exchange import ChatExchange
from client.guardrails import check_answer
from client.masking import StreamUnmasker
from client.tool_calls import join_tool_calls


@dataclass
class _CollectedReply:
    """Reply whose parts are being collected."""

    text: list[str] = field(default_factory=list)
    finish_reason: str = "stop"
    usage: TokenUsage = field(default_factory=TokenUsage)
    tool_calls: list[Mapping[str, Any]] = field(default_factory=list)

    def add(self, part: AnswerDelta) -> None:
        self.text.append(part.text)
        self.tool_calls += part.tool_calls
        self.finish_reason = part.finish_reason or self.finish_reason
        self.usage = part.usage or self.usage

    def reply(self) -> ModelReply:
        return ModelReply(
            "".join(self.text), self.finish_reason, self.usage, join_tool_calls(self.tool_calls)
        )


class AsyncChatStream:
    """Answer as an asynchronous iterator over its parts, of which one has a `finish_reason`.

    `async with` closes the connection when the loop ends early, which ends the work for the answer.

    Args:
        exchange: Exchange of the client.
        messages: The conversation.
        settings: Settings of the call.

    Attributes:
        answer: The whole answer, when all parts have come; else None.
    """

    def __init__(self, exchange: ChatExchange, messages: Conversation, settings: CallSettings):
        self.answer: ChatAnswer | None = None
        self._parts = self._run(exchange, messages, settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[AnswerDelta]:
        return self._parts

    async def aclose(self) -> None:
        """Close the connection."""
        await self._parts.aclose()

    async def _run(
        self, exchange: ChatExchange, messages: Conversation, settings: CallSettings
    ) -> AsyncGenerator[AnswerDelta, None]:
        async with exchange.context(messages, settings) as context:
            caller, opened = await exchange.open_stream(context)
            if isinstance(opened, ModelReply):
                yield await self._whole(exchange, context, caller, opened, from_cache=True)
                return
            collected = _CollectedReply()
            guarded = bool(exchange.settings.guardrails)
            try:
                async with aclosing(_unmasked(context, caller, opened, collected)) as parts:
                    async for part in parts:
                        if not guarded and (part.text or part.tool_calls):
                            yield part
            finally:
                await opened.aclose()
            reply = collected.reply()
            exchange.store(caller.endpoint, context.call, reply)
            whole = await self._whole(exchange, context, caller, reply, from_cache=False)
            if not guarded:
                whole = AnswerDelta("", whole.finish_reason, whole.usage)
            yield whole

    async def _whole(
        self,
        exchange: ChatExchange,
        context: CallContext,
        caller: EndpointCaller,
        reply: ModelReply,
        *,
        from_cache: bool,
    ) -> AnswerDelta:
        """Return a part that holds all of an answer, and keep the answer."""
        text = await check_answer(exchange.settings.guardrails, context.call, reply.text)
        self.answer = context.answer(caller.endpoint, reply, text, from_cache)
        answer = self.answer
        return AnswerDelta(answer.text, answer.finish_reason, answer.usage, answer.tool_calls)


async def _unmasked(
    context: CallContext, caller: EndpointCaller, opened: OpenedStream, collected: _CollectedReply
) -> AsyncGenerator[AnswerDelta, None]:
    """Yield the parts of a stream with values in place of placeholders, and collect them.

    Args:
        context: The call.
        caller: Caller of the endpoint that answers.
        opened: The stream.
        collected: The reply, as the endpoint sends it.

    Raises:
        StreamInterruptedError: The stream breaks off.
    """
    unmasker = StreamUnmasker(context.masked)
    try:
        async for part in opened.parts():
            if context.first_token_s is None:
                context.first_token_s = time.monotonic() - context.started
            collected.add(part)
            # Arguments of functions are JSON cut anywhere: with placeholders, they come at the end.
            tool_calls = () if context.masked.count else part.tool_calls
            yield AnswerDelta(unmasker.feed(part.text), tool_calls=tool_calls)
    except EndpointError as error:
        caller.stream_failed()
        raise StreamInterruptedError(
            f"the stream broke off after {len(''.join(collected.text))} characters: {error}"
        ) from error
    calls = join_tool_calls(collected.tool_calls) if context.masked.count else ()
    indexed = tuple(
        {"index": index, **context.masked.unmask_json(call)} for index, call in enumerate(calls)
    )
    yield AnswerDelta(unmasker.finish(), tool_calls=indexed)
