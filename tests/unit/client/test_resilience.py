"""Planned faults: retries, budget, hedging, circuit breaker, fallback, limits."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest

from client import (
    AsyncClient,
    BedrockEndpoint,
    ChatAnswer,
    CircuitBreakerPolicy,
    CircuitOpenError,
    Client,
    ClientError,
    ClientSettings,
    HedgePolicy,
    NoEndpointAnsweredError,
    OpenAiEndpoint,
    RequestRefusedError,
    RetryPolicy,
    StreamInterruptedError,
    ThrottledError,
    UnavailableError,
)
from client.circuit_breaker import CircuitBreaker
from client.retries import RetryBudget
from tests.unit.client.fault_server import FaultServer, Planned

MESSAGES = [{"role": "user", "content": "How are you?"}]
FAST = RetryPolicy(max_retries=3, base_s=0.01)
BUSY = Planned(status=503, body={"error": {"message": "busy"}})


def endpoint(server: FaultServer, name: str = "tiny") -> OpenAiEndpoint:
    return OpenAiEndpoint(server.url, name)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_is_repeated_until_it_is_answered(server: FaultServer, stream: bool) -> None:
    slow = Planned(status=429, body={}, headers={"Retry-After": "0.2"})
    server.plan = [BUSY, Planned(drop=True), slow]
    began = time.monotonic()
    with Client(endpoint(server), ClientSettings(retry=FAST)) as client:
        if stream:
            opened = client.stream(MESSAGES)
            assert "".join(part.text for part in opened) == server.default.text
            answer = opened.answer
        else:
            answer = client.chat(MESSAGES)
    assert answer is not None
    assert (answer.text, answer.retries) == (server.default.text, 3)
    assert len(server.requests) == 4
    assert time.monotonic() - began >= 0.2  # what the endpoint asked for


def test_a_refused_request_is_not_repeated(server: FaultServer) -> None:
    server.default = Planned(status=400, body={"error": {"message": "bad"}})
    with (
        Client(endpoint(server), ClientSettings(retry=FAST)) as client,
        pytest.raises(RequestRefusedError),
    ):
        client.chat(MESSAGES)
    assert len(server.requests) == 1


def test_waits_have_full_jitter() -> None:
    policy, error = RetryPolicy(base_s=1, max_wait_s=6), UnavailableError("x")
    random.seed(1)
    for attempt, longest in ((0, 1), (1, 2), (2, 4), (3, 6), (9, 6)):
        waits = [policy.wait_s(error, attempt) for _ in range(2000)]
        assert 0 <= min(waits) < 0.02 * longest
        assert 0.98 * longest < max(waits) <= longest
        assert sum(waits) / len(waits) == pytest.approx(longest / 2, rel=0.05)
    assert policy.wait_s(UnavailableError("x", retry_after_s=9), 0) == 9


def test_the_budget_ends_retries_when_most_calls_fail(server: FaultServer) -> None:
    server.default = BUSY
    settings = ClientSettings(retry=RetryPolicy(max_retries=9, base_s=0), breaker=None)
    with Client(endpoint(server), settings) as client:
        failed = client.chat_many([MESSAGES] * 30)
        assert all(isinstance(one, UnavailableError) for one in failed)
        # 500 tokens, of which a retry takes 5.
        assert len(server.requests) == 30 + 100
        # Each call that is answered gives one token back.
        server.default = Planned()
        assert all(isinstance(one, ChatAnswer) for one in client.chat_many([MESSAGES] * 5))
        server.plan = [BUSY]
        assert client.chat(MESSAGES).retries == 1
    budget = RetryBudget()
    assert budget.take(UnavailableError("timed out")) == 10


def test_a_call_that_hangs_is_sent_again(server: FaultServer) -> None:
    server.plan = [Planned(text="late", delay_s=1.5)]
    server.default = Planned(text="soon")
    settings = ClientSettings(hedge=HedgePolicy(after_s=0.1))
    began = time.monotonic()
    with Client(endpoint(server), settings) as client:
        answer = client.chat(MESSAGES)
    assert answer.text == "soon"
    assert time.monotonic() - began < 1.2
    assert len(server.requests) == 2


def test_a_stream_that_does_not_begin_is_hedged(server: FaultServer) -> None:
    server.plan = [Planned(text="late", delay_s=1.5)]
    server.default = Planned(text="soon enough")
    with Client(endpoint(server), ClientSettings(hedge=HedgePolicy(after_s=0.1))) as client:
        assert "".join(part.text for part in client.stream(MESSAGES)) == "soon enough"


def test_hedges_are_a_small_share_of_the_calls(server: FaultServer) -> None:
    server.default = Planned(delay_s=0.01)
    policy = HedgePolicy(after_s=0, max_share=0.1)
    with Client(endpoint(server), ClientSettings(hedge=policy)) as client:
        for _ in range(20):
            client.chat(MESSAGES)
    assert 20 < len(server.requests) <= 20 + 3


def test_by_default_a_call_is_hedged_after_the_usual_time(server: FaultServer) -> None:
    settings = ClientSettings(hedge=HedgePolicy(min_answers=5))
    server.default = Planned(delay_s=0.02)
    with Client(endpoint(server), settings) as client:
        for _ in range(6):
            client.chat(MESSAGES)
        assert len(server.requests) == 6
        # Longer than the usual time on a machine that is busy.
        server.plan = [Planned(text="late", delay_s=10.0)]
        assert client.chat(MESSAGES).text == server.default.text


def test_an_endpoint_that_fails_is_left_alone_and_tried_again(server: FaultServer) -> None:
    server.default = BUSY
    policy = CircuitBreakerPolicy(min_calls=4, reset_s=0.3)
    settings = ClientSettings(retry=RetryPolicy(max_retries=0), breaker=policy)
    with Client(endpoint(server), settings) as client:
        for _ in range(4):
            with pytest.raises(UnavailableError):
                client.chat(MESSAGES)
        assert client.circuits == {"tiny": "open"}
        with pytest.raises(CircuitOpenError, match="asked again in"):
            client.chat(MESSAGES)
        assert len(server.requests) == 4
        time.sleep(0.31)
        assert client.circuits == {"tiny": "half-open"}
        with pytest.raises(UnavailableError):
            client.chat(MESSAGES)
        assert client.circuits == {"tiny": "open"}
        time.sleep(0.31)
        server.default = Planned()
        assert client.chat(MESSAGES).text
        assert client.circuits == {"tiny": "closed"}


def test_one_call_at_a_time_tries_an_open_circuit() -> None:
    now = [0.0]
    breaker = CircuitBreaker(CircuitBreakerPolicy(min_calls=2, reset_s=10), lambda: now[0])
    for _ in range(2):
        assert breaker.allow()
        breaker.record(succeeded=False)
    assert not breaker.allow()
    now[0] = 10
    assert [breaker.allow(), breaker.allow()] == [True, False]
    breaker.release()  # it was cancelled: the next one tries
    assert breaker.allow()
    breaker.record(succeeded=True)
    assert breaker.state == "closed"


def test_refusals_and_throttling_do_not_open_the_circuit(server: FaultServer) -> None:
    settings = ClientSettings(retry=RetryPolicy(max_retries=0))
    with Client(endpoint(server), settings) as client:
        for status in (400, 429, 401) * 5:
            server.default = Planned(status=status, body={})
            with pytest.raises(ClientError):
                client.chat(MESSAGES)
        assert client.circuits == {"tiny": "closed"}


@pytest.mark.parametrize("stream", [False, True])
def test_another_model_answers_when_the_first_does_not(
    server: FaultServer, other: FaultServer, stream: bool
) -> None:
    server.default = BUSY
    settings = ClientSettings(retry=RetryPolicy(max_retries=1, base_s=0.01))
    with Client([endpoint(server, "big"), endpoint(other, "small")], settings) as client:
        if stream:
            opened = client.stream(MESSAGES)
            list(opened)
            answer = opened.answer
        else:
            answer = client.chat(MESSAGES)
        assert answer is not None
        assert (answer.endpoint, answer.text) == ("small", other.default.text)
        other.default = Planned(status=403, body={})
        with pytest.raises(NoEndpointAnsweredError, match=r"big: .*503.*; small: .*403") as caught:
            client.chat(MESSAGES)
    assert set(caught.value.errors) == {"big", "small"}


def test_an_endpoint_that_hangs_leaves_time_for_the_next(
    server: FaultServer, other: FaultServer
) -> None:
    server.default = Planned(delay_s=6)
    with Client([endpoint(server, "big"), endpoint(other, "small")]) as client:
        began = time.monotonic()
        assert client.chat(MESSAGES, timeout_s=4).endpoint == "small"
    assert time.monotonic() - began < 4


def test_an_endpoint_that_cannot_do_a_call_is_passed_over(aws: FaultServer) -> None:
    bedrock = BedrockEndpoint("amazon.nova-lite-v1:0")
    with Client([bedrock, endpoint(aws)]) as client:
        assert client.chat(MESSAGES, seed=3).endpoint == "tiny"
    with (
        Client(bedrock) as client,
        pytest.raises(RequestRefusedError, match="Converse takes no seed"),
    ):
        client.chat(MESSAGES, seed=3)


def test_a_call_ends_at_its_time_limit(server: FaultServer) -> None:
    server.default = Planned(delay_s=2)
    with Client(endpoint(server)) as client:
        began = time.monotonic()
        with pytest.raises(UnavailableError, match=r"within 0.3 s"):
            client.chat(MESSAGES, timeout_s=0.3)
    assert time.monotonic() - began < 1
    server.default = BUSY
    with Client(endpoint(server), ClientSettings(retry=RetryPolicy(base_s=50))) as client:
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="503"):
            client.chat(MESSAGES, timeout_s=0.3)  # a retry would come too late
    assert time.monotonic() - began < 1


def test_a_stream_that_breaks_off_is_not_sent_again_unnoticed(server: FaultServer) -> None:
    server.default = Planned(text="one two three", cut_after=4)
    with Client(endpoint(server), ClientSettings(retry=FAST)) as client:
        stream = client.stream(MESSAGES)
        parts = []
        with pytest.raises(StreamInterruptedError, match="after 9 characters"):
            for part in stream:
                parts.append(part.text)
    assert "".join(parts) == "one two t"
    assert stream.answer is None
    assert len(server.requests) == 1


def test_a_pause_in_a_stream_has_a_limit(server: FaultServer) -> None:
    server.default = Planned(pause_s=1.5)
    settings = ClientSettings(attempt_timeout_s=0.2, retry=RetryPolicy(max_retries=0))
    with (
        Client(endpoint(server), settings) as client,
        pytest.raises(ClientError, match=r"timed out|within"),
    ):
        list(client.stream(MESSAGES))


def test_closing_a_stream_ends_the_work_for_it(server: FaultServer) -> None:
    server.default = Planned(text="word " * 200, pause_s=0.01)
    with Client(endpoint(server)) as client:
        with client.stream(MESSAGES) as stream:
            assert next(stream).text == "wor"
        until = time.monotonic() + 3
        while not server.aborted:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_many_calls_keep_their_order_and_their_errors(server: FaultServer) -> None:
    server.default = Planned(delay_s=0.05)
    settings = ClientSettings(max_concurrency=4, retry=RetryPolicy(max_retries=0))
    conversations: list[Any] = [[{"role": "user", "content": f"Number {i}"}] for i in range(12)]
    conversations[5] = []
    with Client(endpoint(server), settings) as client:
        results = client.chat_many(conversations)
    assert [isinstance(one, ChatAnswer) for one in results] == [i != 5 for i in range(12)]
    assert server.most_in_progress == 4


def test_equal_calls_at_the_same_time_are_sent_once(server: FaultServer) -> None:
    server.default = Planned(delay_s=0.1)
    with Client(endpoint(server)) as client:
        results = client.chat_many([MESSAGES] * 8, temperature=0)
        assert len(server.requests) == 1
        assert [one.from_cache for one in results if isinstance(one, ChatAnswer)].count(False) == 1
        client.chat_many([MESSAGES] * 3, temperature=0.7)
    assert len(server.requests) == 4  # samples differ, so each is drawn


def test_a_cancelled_call_does_not_end_an_equal_one(server: FaultServer) -> None:
    server.default = Planned(delay_s=0.3)

    async def run() -> ChatAnswer:
        async with AsyncClient(endpoint(server)) as client:
            first = asyncio.create_task(client.chat(MESSAGES, temperature=0))
            await asyncio.sleep(0.05)
            second = asyncio.create_task(client.chat(MESSAGES, temperature=0))
            await asyncio.sleep(0.05)
            first.cancel()
            return await second

    assert asyncio.run(run()).text == server.default.text
    assert len(server.requests) == 1


def test_a_throttled_endpoint_that_loads_a_model_is_asked_later() -> None:
    from client.endpoints.http_errors import classified

    error = classified("x", 429, "ModelNotReadyException", "loading", None)
    assert isinstance(error, ThrottledError)
    assert error.retry_after_s == 5
