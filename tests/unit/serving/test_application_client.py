"""The client for applications against the real server, and the examples of its page."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from serving.model import ServedModel
from temper.client import (
    AccessRefusedError,
    ChatAnswer,
    Client,
    ClientSettings,
    OpenAiEndpoint,
    RequestRefusedError,
    RetryPolicy,
)
from tests.unit.serving.running import RunningServer, running_server

MESSAGES = [{"role": "user", "content": "What is int?"}]
PAGE = Path(__file__).parents[3] / "docs/client.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_answers_are_those_of_the_server(server: RunningServer) -> None:
    body = {"messages": MESSAGES, "max_tokens": 12, "temperature": 0.8, "seed": 5}
    theirs = server.post("/v1/chat/completions", body).json()
    with Client(OpenAiEndpoint(f"{server.url}/v1", "tiny", prompt_cache=True)) as client:
        ours = client.chat(MESSAGES, max_tokens=12, temperature=0.8, seed=5)
        stream = client.stream(MESSAGES, max_tokens=12, temperature=0.8, seed=5)
        streamed = "".join(part.text for part in stream)
        many = client.chat_many([MESSAGES, [*MESSAGES, *MESSAGES]], temperature=0, max_tokens=4)
    assert ours.text == streamed == theirs["choices"][0]["message"]["content"]
    assert stream.answer is not None
    assert ours.usage == stream.answer.usage
    assert ours.usage.input == theirs["usage"]["prompt_tokens"]
    assert ours.usage.output == theirs["usage"]["completion_tokens"]
    assert all(isinstance(one, ChatAnswer) for one in many)


def test_errors_of_the_server(server: RunningServer) -> None:
    long: Any = [{"role": "user", "content": "x " * 400}]
    with Client(OpenAiEndpoint(f"{server.url}/v1", "tiny")) as client:
        with pytest.raises(RequestRefusedError, match="context is 256 tokens"):
            client.chat(long)
        with pytest.raises(RequestRefusedError, match="frequency_penalty is not implemented"):
            client.chat(MESSAGES, extra={"frequency_penalty": 2})
    with (
        Client(OpenAiEndpoint(f"{server.url}/v1", "other")) as client,
        pytest.raises(AccessRefusedError, match="tiny"),
    ):
        client.chat(MESSAGES)


def test_calls_that_a_busy_server_refuses_are_answered_later(served: ServedModel) -> None:
    settings = ClientSettings(retry=RetryPolicy(max_retries=30, base_s=0.05))
    with (
        running_server(served, max_running=2, max_waiting=1) as running,
        Client(OpenAiEndpoint(f"{running.url}/v1", "tiny"), settings) as client,
        ThreadPoolExecutor(8) as pool,
    ):

        def ask(number: int) -> ChatAnswer:
            return client.chat(MESSAGES, max_tokens=20, temperature=1, seed=number)

        answers = list(pool.map(ask, range(8)))
    assert all(answer.usage.output for answer in answers)
    assert any(answer.retries for answer in answers)


def test_closing_a_stream_ends_the_work_of_the_engine(server: RunningServer) -> None:
    with Client(OpenAiEndpoint(f"{server.url}/v1", "tiny")) as client:
        with client.stream(MESSAGES, max_tokens=200, extra={"ignore_eos": True}) as stream:
            next(stream)
        server.wait_until_idle()


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_of_the_page(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, example: str
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"{server.url}/v1"
    monkeypatch.setenv("SUPPORT_MODEL", f"openai:{url}#tiny")
    code = example.replace("http://127.0.0.1:8000/v1", url).replace('"support"', '"tiny"')
    exec(compile(code, str(PAGE), "exec"), {})


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) >= 8
