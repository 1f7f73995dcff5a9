"""Routes of OpenAI's protocol."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.engine.requests import AnswerPart
from serving.http.answers import AnswerService
from serving.http.part_delivery import NumberedPart
from serving.http.responses import EventStream, unless_gone
from serving.model import ServedModel
from serving.protocol.chat import ChatRequest, chat_choice, chat_delta, prepare_chat
from serving.protocol.completions import (
    CompletionRequest,
    completion_choice,
    echo_texts,
    prepare_completion,
)
from serving.protocol.fields import SharedFields, parse_body
from serving.protocol.prepared import PreparedRequest

Parts = list[AnswerPart]
Stream = AsyncGenerator[NumberedPart, None]


@dataclass(frozen=True)
class _Answering:
    """Form of the answers to one request.

    Attributes:
        kind: Kind of object of a complete answer.
        part_kind: Kind of object of a part of a streamed one.
        prefix: Beginning of its id.
        choice: Returns a complete choice from its number and all parts.
        delta: Returns a part of a choice from its number, the part, and whether it is the first.
    """

    kind: str
    part_kind: str
    prefix: str
    choice: Callable[[int, Parts], dict[str, Any]]
    delta: Callable[[int, AnswerPart, bool], dict[str, Any]]


class OpenAIRoutes:
    """Endpoints of OpenAI's protocol.

    Args:
        served: The model.
        service: Answers of the engine.
    """

    def __init__(self, served: ServedModel, service: AnswerService):
        self._served, self._service = served, service
        self._started = int(time.time())

    async def models(self, _: Request) -> Response:
        """List the model and its adapters."""
        base = {"object": "model", "created": self._started, "owned_by": "temper"}
        served = self._served
        context = {"max_model_len": served.context}
        data = [{"id": served.name, **base, "root": served.source, "parent": None, **context}]
        data += [
            {"id": name, **base, "root": name, "parent": served.name, **context}
            for name in served.adapters
        ]
        return JSONResponse({"object": "list", "data": data})

    async def chat(self, request: Request, document: Any) -> Response:
        """Answer a chat completion."""
        body = parse_body(ChatRequest, document)
        prepared = prepare_chat(self._served, body)
        form = prepared.format
        answering = _Answering(
            "chat.completion",
            "chat.completion.chunk",
            "chatcmpl",
            lambda index, parts: chat_choice(form, index, parts),
            lambda index, part, first: chat_delta(form, index, part, first),
        )
        return await self._answer(request, body, prepared, answering)

    async def completions(self, request: Request, document: Any) -> Response:
        """Answer a completion."""
        body = parse_body(CompletionRequest, document)
        prepared = prepare_completion(self._served, body)
        echoes = echo_texts(prepared, body)

        def choice(index: int, parts: Parts, first: bool = True) -> dict[str, Any]:
            prompt = prepared.answers[index].prompt
            echo = echoes[index] if first else None
            return completion_choice(prepared.format, index, prompt, echo, parts)

        answering = _Answering(
            "text_completion",
            "text_completion",
            "cmpl",
            choice,
            lambda index, part, first: choice(index, [part], first),
        )
        return await self._answer(request, body, prepared, answering)

    async def _answer(
        self, request: Request, body: SharedFields, prepared: PreparedRequest, answering: _Answering
    ) -> Response:
        head: dict[str, Any] = {
            "id": f"{answering.prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": prepared.model,
        }
        parts = self._service.stream(prepared)
        if self._service.log is not None:
            parts = self._service.log.recorded(body, prepared, parts)
        if not body.stream:
            collected = await unless_gone(request, _collect(parts, len(prepared.answers)))
            choices = [answering.choice(index, found) for index, found in enumerate(collected)]
            usage = _usage(prepared, sum(part.token_count for one in collected for part in one))
            return JSONResponse(
                {**head, "object": answering.kind, "choices": choices, "usage": usage}
            )
        # An error before the first part is a response of its own status.
        first = await unless_gone(request, anext(parts))
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        head["object"] = answering.part_kind
        return EventStream(
            _StreamedAnswer(prepared, answering, head, with_usage).events(first, parts)
        )


@dataclass
class _StreamedAnswer:
    """Answer as events, one for each part.

    Attributes:
        prepared: The request.
        answering: Form of its answers.
        head: What every event begins with.
        usage: Whether a last event says how many tokens were used.
    """

    prepared: PreparedRequest
    answering: _Answering
    head: dict[str, Any]
    usage: bool

    async def events(
        self, first: NumberedPart, parts: Stream
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the events.

        Args:
            first: The first part, which has been awaited.
            parts: The others; the iterator is closed in any case.
        """
        begun: set[int] = set()
        tokens = 0
        usage = {"usage": None} if self.usage else {}
        async with aclosing(parts):
            async for index, part in _chain(first, parts):
                tokens += part.token_count
                if index in begun and not (part.text or part.log_probs or part.finish_reason):
                    continue
                delta = self.answering.delta(index, part, index not in begun)
                begun.add(index)
                yield {**self.head, "choices": [delta], **usage}
        if self.usage:
            yield {**self.head, "choices": [], "usage": _usage(self.prepared, tokens)}


async def _chain(first: NumberedPart, parts: Stream) -> AsyncIterator[NumberedPart]:
    yield first
    async for part in parts:
        yield part


async def _collect(parts: Stream, count: int) -> list[Parts]:
    collected: list[Parts] = [[] for _ in range(count)]
    async with aclosing(parts):
        async for index, part in parts:
            collected[index].append(part)
    return collected


def _usage(prepared: PreparedRequest, tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prepared.prompt_tokens,
        "completion_tokens": tokens,
        "total_tokens": prepared.prompt_tokens + tokens,
    }
