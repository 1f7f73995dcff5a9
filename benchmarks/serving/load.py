"""Clients that ask a server for streamed completions, and measure the answers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import httpx2

from benchmarks.serving.servers import ServerProcess


@dataclass(frozen=True)
class StreamedAnswer:
    """Answer of a server to one request.

    Attributes:
        text: Its text.
        tokens: Number of its tokens, as the server counts them.
        begun: Seconds until its first text.
        seconds: Seconds until its end.
    """

    text: str
    tokens: int
    begun: float
    seconds: float


@dataclass(frozen=True)
class LoadResult:
    """Measurement of a server under one number of clients.

    Attributes:
        first_token: Median time to the first token, in seconds.
        inter_token: Median time between two tokens of an answer, in seconds.
        tokens_per_second: Tokens of all answers per second.
        server_cpu: CPU time of the server per token, with the reading of prompts, in seconds.
        texts: Texts of the answers, in the order of the prompts.
    """

    first_token: float
    inter_token: float
    tokens_per_second: float
    server_cpu: float
    texts: tuple[str, ...]


def measure(
    server: ServerProcess, body: dict[str, Any], prompts: Sequence[str], clients: int
) -> LoadResult:
    """Return the measurement of a server.

    Args:
        server: The server.
        body: Body of each request, without its prompt.
        prompts: Prompts, dealt to the clients.
        clients: Number of clients, each of which waits for an answer before it asks again.
    """
    begun, cpu_s = time.perf_counter(), server.cpu_s()
    answers = asyncio.run(_run_clients(server.url, body, prompts, clients))
    seconds, cpu_s = time.perf_counter() - begun, server.cpu_s() - cpu_s
    tokens = sum(answer.tokens for answer in answers)
    return LoadResult(
        median(answer.begun for answer in answers),
        median((a.seconds - a.begun) / max(1, a.tokens - 1) for a in answers),
        tokens / seconds,
        cpu_s / tokens,
        tuple(answer.text for answer in answers),
    )


async def _run_clients(
    url: str, body: dict[str, Any], prompts: Sequence[str], clients: int
) -> list[StreamedAnswer]:
    answers: dict[int, StreamedAnswer] = {}
    waiting = list(enumerate(prompts))[::-1]
    # A connection for each request: servers close idle ones at times of their own.
    limits = httpx2.Limits(max_keepalive_connections=0)
    async with httpx2.AsyncClient(
        base_url=url, timeout=600, trust_env=False, limits=limits
    ) as client:

        async def work() -> None:
            while waiting:
                place, prompt = waiting.pop()
                answers[place] = await _ask(client, {**body, "prompt": prompt, "stream": True})

        await asyncio.gather(*(work() for _ in range(clients)))
    return [answers[place] for place in range(len(prompts))]


async def _ask(client: httpx2.AsyncClient, body: dict[str, Any]) -> StreamedAnswer:
    start, begun, text, tokens = time.perf_counter(), 0.0, "", 0
    async with client.stream("POST", "/v1/completions", json=body) as response:
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            assert "error" not in event, event
            for choice in event["choices"]:
                if choice.get("text") and not begun:
                    begun = time.perf_counter() - start
                text += choice.get("text") or ""
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    return StreamedAnswer(text, tokens, begun, time.perf_counter() - start)
