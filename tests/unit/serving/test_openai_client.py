"""OpenAI's own client, connected to the server."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from serving.model import ServedModel
from tests.unit.serving.running import RunningServer, running_server

KEY = "geheim"


@pytest.fixture(scope="module")
def keyed(served: ServedModel) -> Iterator[RunningServer]:
    with running_server(served, max_running=2, max_waiting=0, api_key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def client(keyed: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{keyed.url}/v1", api_key=KEY, max_retries=0) as one:
        yield one


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_a_chat_at_once_and_as_a_stream(client: openai.OpenAI) -> None:
    messages: list[openai.types.chat.ChatCompletionMessageParam] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is int?"}]},
    ]
    whole = client.chat.completions.create(
        model="tiny", messages=messages, max_completion_tokens=12, seed=4, logprobs=True
    )
    stream = client.chat.completions.create(
        model="tiny",
        messages=messages,
        max_completion_tokens=12,
        seed=4,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert whole.choices[0].logprobs is not None
    assert len(whole.choices[0].logprobs.content or ()) == whole.usage.completion_tokens


def test_a_text_with_echo(client: openai.OpenAI) -> None:
    found = client.completions.create(
        model="tiny", prompt="def add", max_tokens=0, echo=True, logprobs=1
    )
    log_probs = found.choices[0].logprobs
    assert log_probs is not None
    assert found.choices[0].text == "def add"
    assert len(log_probs.tokens or ()) == found.usage.prompt_tokens


def test_errors_are_the_exceptions_that_the_client_documents(
    client: openai.OpenAI, keyed: RunningServer
) -> None:
    with pytest.raises(openai.NotFoundError, match="'gpt-4' does not exist"):
        client.completions.create(model="gpt-4", prompt="x")
    with pytest.raises(openai.BadRequestError, match="context is 256 tokens") as refused:
        client.completions.create(model="tiny", prompt="x", max_tokens=1000)
    assert refused.value.param == "prompt"
    with pytest.raises(openai.RateLimitError, match="Try again later"):
        client.completions.create(model="tiny", prompt="x", n=3)
    other = client.with_options(api_key="other")
    with pytest.raises(openai.AuthenticationError, match="API key is missing or wrong"):
        other.models.list()
    keyed.wait_until_idle()


def test_a_stream_that_is_closed_ends_its_work(client: openai.OpenAI, keyed: RunningServer) -> None:
    for _ in range(6):  # more than the server takes at once
        stream = client.completions.create(
            model="tiny",
            prompt="x",
            max_tokens=200,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        next(iter(stream))
        stream.close()
        keyed.wait_until_idle()
