"""Delivery of tokens to the event loop: at once, or with those that follow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from serving.engine.base import EngineLoad
from serving.engine.requests import AnswerPart, AnswerSettings, FinishReason, GenerationRequest
from serving.engine.sampling import TokenLogProb
from serving.http.answers import AnswerService, RequestLimits
from serving.http.metrics import ServingMetrics
from serving.http.part_delivery import PartDelivery, PartQueue, next_parts
from serving.protocol.prepared import PreparedAnswer, PreparedRequest
from serving.transformers_model import TransformersServedModel

NEVER_S = 600.0


async def in_a_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    await asyncio.to_thread(thread.join)


def test_tokens_wait_for_those_that_follow_and_the_last_one_for_none() -> None:
    async def run() -> None:
        loop, delivery = asyncio.get_running_loop(), PartDelivery(NEVER_S)
        queue: PartQueue = asyncio.Queue()

        def deliver(index: int, text: str, last: bool = False) -> None:
            reason: FinishReason | None = "length" if last else None
            log_probs = (TokenLogProb(ord(text), -1.0),)
            part = AnswerPart(text, 1, log_probs, finish_reason=reason)
            delivery.deliver(loop, queue, (index, part), urgent=last)

        def deliver_in_turns() -> None:
            for place, text in enumerate("bcde"):
                deliver(place % 2, text)

        await in_a_thread(lambda: deliver(0, "a"))
        assert [part.text for _, part in await next_parts(queue)] == ["a"]  # the server was idle
        await in_a_thread(deliver_in_turns)
        assert queue.empty()
        await in_a_thread(lambda: deliver(0, "f", last=True))
        (first, zero), (second, one) = await asyncio.wait_for(next_parts(queue), 30)
        assert (first, zero.text, zero.token_count, zero.finish_reason) == (0, "bdf", 3, "length")
        assert [log_prob.token for log_prob in zero.log_probs] == [ord(text) for text in "bdf"]
        assert (second, one.text, one.finish_reason) == (1, "ce", None)

    asyncio.run(run())


def test_tokens_that_wait_are_delivered_at_the_end_of_the_period() -> None:
    async def run() -> None:
        loop, delivery = asyncio.get_running_loop(), PartDelivery(0.01)
        queue: PartQueue = asyncio.Queue()
        texts = [str(number) for number in range(50)]

        def deliver_all() -> None:
            for text in texts:
                delivery.deliver(loop, queue, (0, AnswerPart(text, 1)))

        await in_a_thread(deliver_all)
        found = ""
        while len(found) < len("".join(texts)):
            ((_, part),) = await asyncio.wait_for(next_parts(queue), 30)
            found += part.text
        assert found == "".join(texts)

    asyncio.run(run())


def test_a_text_before_an_error_is_not_lost() -> None:
    async def run() -> None:
        queue: PartQueue = asyncio.Queue()
        failed = AnswerPart(finish_reason="error", error="planted")
        for part in (AnswerPart("a", 1), AnswerPart("b", 1), failed):
            queue.put_nowait((0, part))
        assert await next_parts(queue) == [(0, AnswerPart("ab", 2)), (0, failed)]

    asyncio.run(run())


def test_every_token_of_a_joined_part_is_measured(served: TransformersServedModel) -> None:
    class Engine:
        """Engine that answers with five tokens at once."""

        load = EngineLoad(0, 0, 0)
        alive = True

        def submit(self, request: GenerationRequest) -> None:
            for text in "abcd":
                request.deliver(AnswerPart(text, 1))
            request.deliver(AnswerPart("e", 1, finish_reason="length"))

        def start(self) -> None: ...

        def stop(self) -> None: ...

        def cancel(self, request: GenerationRequest) -> None: ...

    async def run() -> None:
        metrics = ServingMetrics("tiny")
        service = AnswerService(Engine(), metrics, RequestLimits(1, 60))
        answer = PreparedAnswer([5], AnswerSettings(5))
        prepared = PreparedRequest("tiny", served.formats[None], [answer], 1)
        parts = [part async for _, part in service.stream(prepared)]
        assert "".join(part.text for part in parts) == "abcde"
        text = metrics.render(0, 0)
        for name, count in (("time_to_first_token", 1), ("inter_token_latency", 4)):
            assert f'vllm:{name}_seconds_count{{model_name="tiny"}} {count}\n' in text
        assert 'vllm:generation_tokens_total{model_name="tiny"} 5\n' in text

    asyncio.run(run())
