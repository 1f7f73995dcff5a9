"""Answers of the engine's thread, awaited in the server's event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from serving.engine.base import TIMED_OUT, UNLOADED, AnswerEngine
from serving.engine.requests import AnswerPart, GenerationRequest
from serving.errors import RequestError
from serving.http.metrics import ServingMetrics
from serving.http.part_delivery import NumberedPart, PartDelivery, PartQueue, next_parts
from serving.http.request_log import RequestLog
from serving.protocol.prepared import PreparedRequest

_RETRY_SECONDS = 1
_STATUS_OF_ERRORS = {TIMED_OUT: 504, UNLOADED: 404}


@dataclass(frozen=True)
class RequestLimits:
    """Limits of requests.

    Attributes:
        max_requests: Most answers that are in progress or wait.
        timeout: Seconds after which a request ends in an error.
    """

    max_requests: int
    timeout: float


class AnswerService:
    """Answers to prepared requests.

    Args:
        engine: The engine.
        metrics: Metrics of the server.
        limits: Limits of requests.
        log: Log of requests and answers; None for none.
    """

    def __init__(
        self,
        engine: AnswerEngine,
        metrics: ServingMetrics,
        limits: RequestLimits,
        log: RequestLog | None = None,
    ):
        self.engine, self.metrics, self.limits, self.log = engine, metrics, limits, log
        self._active = 0
        self._delivery = PartDelivery()

    async def stream(self, prepared: PreparedRequest) -> AsyncGenerator[NumberedPart, None]:
        """Yield each part of the answers with the number of its answer.

        An iterator that is closed early ends the work of the engine.

        Raises:
            RequestError: The server has too many requests, the time is over, or the engine failed.
        """
        count = len(prepared.answers)
        if self._active + count > self.limits.max_requests:
            raise RequestError(
                f"the server has {self._active} answers in progress or waiting, of at most "
                f"{self.limits.max_requests}, and the request asks for {count}. Try again later",
                429,
                retry_after=_RETRY_SECONDS,
            )
        loop = asyncio.get_running_loop()
        parts: PartQueue = asyncio.Queue()
        deadline = time.monotonic() + self.limits.timeout

        silent = set(range(count))  # answers without a token

        def receiver(index: int) -> GenerationRequest:
            def deliver(part: AnswerPart) -> None:
                urgent = index in silent or part.finish_reason is not None
                silent.discard(index)
                self._delivery.deliver(loop, parts, (index, part), urgent=urgent)

            answer = prepared.answers[index]
            return GenerationRequest(
                answer.prompt, answer.settings, deliver, prepared.format.adapter, deadline
            )

        requests = [receiver(index) for index in range(count)]
        open_requests = set(range(count))
        self._active += count
        self.metrics.prompt_tokens += prepared.prompt_tokens
        try:
            for request in requests:
                self.engine.submit(request)
            clocks = [_AnswerClock(self.metrics, request) for request in requests]
            while open_requests:
                for index, part in await next_parts(parts):
                    clocks[index].observe(part)
                    if part.finish_reason == "error":
                        raise RequestError(part.error, _STATUS_OF_ERRORS.get(part.error, 500))
                    if part.finish_reason:
                        open_requests.discard(index)
                    yield index, part
        finally:
            self._active -= count
            for index in open_requests:
                self.engine.cancel(requests[index])
                self.metrics.finished["abort"] += 1


class _AnswerClock:
    """Measurement of an answer's times and lengths."""

    def __init__(self, metrics: ServingMetrics, request: GenerationRequest):
        self._metrics, self._request = metrics, request
        self._last: float | None = None
        self._tokens = 0

    def observe(self, part: AnswerPart) -> None:
        """Measure a part."""
        now = time.monotonic()
        if part.token_count:
            # Tokens of a part share its time; those of the first part came at once.
            following, between = part.token_count, 0.0
            if self._last is None:
                self._metrics.first_token.observe(now - self._request.arrived)
                following -= 1
            else:
                between = (now - self._last) / part.token_count
            for _ in range(following):
                self._metrics.inter_token.observe(between)
            self._last = now
            self._tokens += part.token_count
            self._metrics.generation_tokens += part.token_count
        if part.finish_reason:
            self._metrics.finished[part.finish_reason] += part.finish_reason != "error"
            self._metrics.whole.observe(now - self._request.arrived)
            self._metrics.prompt_lengths.observe(len(self._request.prompt))
            self._metrics.answer_lengths.observe(self._tokens)
