"""The protocol: streams, errors, keys, limits, disconnects, metrics, SageMaker's contract."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from serving.transformers_model import TransformersServedModel, load_transformers_model
from tests.unit.serving.running import RunningServer, running_server

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
USER = {"messages": [{"role": "user", "content": "What is int?"}]}


def test_models_are_listed_with_their_context(server: RunningServer) -> None:
    (model,) = server.client.get("/v1/models").json()["data"]
    assert (model["id"], model["max_model_len"]) == ("tiny", 256)


def test_a_stream_says_the_role_first_and_the_usage_last(server: RunningServer) -> None:
    body = {**USER, "max_tokens": 9, "seed": 1, "stream_options": {"include_usage": True}}
    events = server.stream(CHAT, body)
    *parts, last = events
    assert parts[0]["choices"][0]["delta"]["role"] == "assistant"
    assert all("role" not in part["choices"][0]["delta"] for part in parts[1:])
    assert [part["choices"][0]["finish_reason"] for part in parts][-1] in {"length", "stop"}
    assert last["choices"] == []
    whole = server.post(CHAT, {**USER, "max_tokens": 9, "seed": 1}).json()
    assert last["usage"] == whole["usage"]
    assert len({event["id"] for event in events}) == 1


def test_log_probabilities_of_a_chat(server: RunningServer) -> None:
    body = {**USER, "max_tokens": 6, "temperature": 0, "logprobs": True, "top_logprobs": 2}
    whole = server.post(CHAT, body).json()["choices"][0]
    entries = whole["logprobs"]["content"]
    written = b"".join(bytes(entry["bytes"]) for entry in entries).decode(errors="replace")
    assert written.startswith(whole["message"]["content"])
    for entry in entries:
        assert len(entry["top_logprobs"]) == 2
        # A greedy answer consists of the most likely tokens.
        assert entry["logprob"] == entry["top_logprobs"][0]["logprob"]
    streamed = [
        entry
        for event in server.stream(CHAT, body)
        for entry in (event["choices"][0]["logprobs"] or {"content": []})["content"]
    ]
    assert [entry["token"] for entry in streamed] == [entry["token"] for entry in entries]


def test_tools_reach_the_chat_template(server: RunningServer) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    plain, tools, none = (
        server.post(CHAT, {**USER, "max_tokens": 1, **fields}).json()["usage"]["prompt_tokens"]
        for fields in ({}, {"tools": [tool]}, {"tools": [tool], "tool_choice": "none"})
    )
    assert tools > plain == none


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (TEXT, [], 400, "not a JSON object"),
        (TEXT, {}, 400, "prompt is missing"),
        (TEXT, {"prompt": ""}, 200, ""),  # the begin-of-text token alone
        (TEXT, {"prompt": []}, 400, "0 prompts"),
        (
            TEXT,
            {"prompt": [5, 1000]},
            400,
            "token id 1000 does not exist: the model reads ids below 320",
        ),
        (TEXT, {"prompt": "x", "max_tokens": 0}, 400, "needs echo: true"),
        (TEXT, {"prompt": "x", "max_tokens": -1}, 400, "max_tokens: .*greater.* 0, not -1"),
        (TEXT, {"prompt": "x", "max_tokens": 300}, 400, r"256 tokens, .* needs 302: 2 of the pro"),
        (TEXT, {"prompt": "x", "temperature": 3, "top_p": 0}, 400, "temperature: .*; top_p: "),
        (TEXT, {"prompt": "x", "suffix": "y"}, 400, "suffix is not implemented"),
        (TEXT, {"prompt": "x", "stop": ""}, 400, "stop has an empty text"),
        (TEXT, {"prompt": "x", "n": 1000}, 400, "n: .*less than or equal to 128"),
        (TEXT, {"prompt": "x", "model": "gpt-4"}, 404, "'gpt-4' does not exist. Served: tiny"),
        (TEXT, {"prompt": "x", "temprature": 1}, 400, "temprature is not a field"),
        (TEXT, {"prompt": "x", "frequency_penalty": 0.5}, 400, "frequency_penalty is not impl"),
        (CHAT, {"messages": []}, 400, "messages: .*at least 1 item"),
        (CHAT, {"messages": [{"content": "x"}]}, 400, r"messages\[0\] has no role"),
        (CHAT, {"messages": [{"role": "judge", "content": "x"}]}, 400, "has the role judge"),
        (CHAT, {**USER, "top_logprobs": 2}, 400, "top_logprobs needs logprobs"),
        (CHAT, {**USER, "tool_choice": "required"}, 400, "tool_choice"),
        (CHAT, {**USER, "response_format": {"type": "json_object"}}, 400, "response_format is not"),
        (CHAT, {"messages": [{"role": "user", "content": "x " * 400}]}, 400, "context is 256 tok"),
        (
            CHAT,
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            400,
            "a part that is not text",
        ),
        ("/invocations", {"inputs": "x"}, 400, "neither messages .* nor prompt"),
        ("/v1/embeddings", {}, 404, "there is no /v1/embeddings. Routes: .*/v1/completions"),
    ],
)
def test_bad_requests(
    server: RunningServer, path: str, body: Any, status: int, message: str
) -> None:
    response = server.post(path, body)
    assert response.status_code == status
    if status != 200:
        error = response.json()["error"]
        assert re.search(message, error["message"]), error
        assert set(error) == {"message", "type", "param", "code"}
    server.wait_until_idle()


def test_a_model_without_a_chat_template_completes_texts(tiny_model: Path) -> None:
    with running_server(load_transformers_model("plain", str(tiny_model), {})) as running:
        status, message = running.error(CHAT, USER)
        assert status == 400
        assert "the model plain has no chat template. Use /v1/completions" in message
        assert running.complete("x", max_tokens=1)["choices"]


def test_bodies_that_are_not_json(server: RunningServer) -> None:
    post = server.client.post
    broken = post(TEXT, content=b'{"prompt": ', headers={"Content-Type": "application/json"})
    assert (broken.status_code, "not JSON" in broken.text) == (400, True)
    form = post(TEXT, content=b"prompt=x", headers={"Content-Type": "text/plain"})
    assert (form.status_code, "send application/json" in form.text) == (415, True)
    assert server.client.get(TEXT).status_code == 405


def test_sagemaker(server: RunningServer) -> None:
    assert server.client.get("/ping").status_code == 200
    text = json.dumps({"prompt": "x", "max_tokens": 3, "temperature": 0})
    found = server.client.post("/invocations", content=text).json()
    assert found["choices"][0] == server.complete("x", max_tokens=3, temperature=0)["choices"][0]
    chat = server.post("/invocations", {**USER, "max_tokens": 3})
    assert chat.json()["object"] == "chat.completion"


def test_a_server_with_a_key(served: TransformersServedModel) -> None:
    body = {"prompt": "x", "max_tokens": 1}
    with running_server(served, api_key="geheim") as running:
        assert running.error(TEXT, body)[0] == 401
        assert running.error(TEXT, body, Authorization="Bearer other")[0] == 401
        assert running.post(TEXT, body, Authorization="Bearer geheim").status_code == 200
        assert running.client.get("/v1/models").status_code == 401
        assert running.client.get("/ping").status_code == 200


def test_too_many_requests_are_refused_and_the_others_answered(
    served: TransformersServedModel,
) -> None:
    body = {"prompt": "x", "max_tokens": 60, "ignore_eos": True}
    with running_server(served, max_running=2, max_waiting=2) as running:
        with ThreadPoolExecutor(12) as pool:
            responses = list(pool.map(lambda _: running.post(TEXT, body), range(12)))
        refused = [one for one in responses if one.status_code == 429]
        answered = [one for one in responses if one.status_code == 200]
        assert len(refused) + len(answered) == 12
        assert len(answered) >= 4
        assert refused
        assert refused[0].headers["retry-after"] == "1"
        assert "in progress or waiting, of at most 4" in refused[0].json()["error"]["message"]
        assert running.error(TEXT, {**body, "n": 5})[0] == 429
        running.wait_until_idle()
        assert running.post(TEXT, body).status_code == 200


def test_a_request_that_takes_too_long_ends(served: TransformersServedModel) -> None:
    body = {"prompt": "x", "max_tokens": 250, "ignore_eos": True}
    with running_server(served, timeout=0.05) as running:
        status, message = running.error(TEXT, body)
        running.wait_until_idle()
    assert (status, message) == (504, "the request timed out")


def test_fifty_clients_get_the_answers_that_one_gets(server: RunningServer) -> None:
    bodies = [
        {"prompt": "str " * (index % 7), "max_tokens": 12, "temperature": 0.9, "seed": index}
        for index in range(50)
    ]
    alone = [server.post(TEXT, body).json()["choices"] for body in bodies[:10]]
    with ThreadPoolExecutor(50) as pool:
        together = list(pool.map(lambda body: server.post(TEXT, body).json()["choices"], bodies))
    assert together[:10] == alone
    assert len(together) == 50
    server.wait_until_idle()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_ends_its_work(served: TransformersServedModel, stream: bool) -> None:
    body = {"prompt": "x", "max_tokens": 250, "ignore_eos": True, "stream": stream}
    data = json.dumps(body).encode()
    with running_server(_slowed(served)) as running:
        where = urlsplit(running.url)
        with socket.create_connection((where.hostname, where.port)) as connection:
            head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
            if stream:
                assert b"200 OK" in connection.recv(4096)
            else:
                _wait_for(lambda: running.service.engine.load.running == 1)
        begun = time.monotonic()
        running.wait_until_idle()
        # All 250 tokens would take 2.5 seconds.
        assert time.monotonic() - begun < 1
        metrics = running.client.get("/metrics").text
    assert 'vllm:request_success_total{model_name="tiny",finished_reason="abort"} 1' in metrics


def _slowed(served: TransformersServedModel) -> TransformersServedModel:
    """Return the model with a pause of 10 ms before each token."""
    from dataclasses import replace

    class SlowExecutor:
        def __getattr__(self, name: str) -> Any:
            return getattr(served.executor, name)

        def forward(self, *arguments: Any) -> Any:
            time.sleep(0.01)
            return served.executor.forward(*arguments)

    return replace(served, executor=SlowExecutor())


def _wait_for(condition: Any) -> None:
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_metrics_count_what_was_served(served: TransformersServedModel) -> None:
    with running_server(served) as running:
        usages = [
            running.complete("def f", max_tokens=length, ignore_eos=True)["usage"]
            for length in (3, 5)
        ]
        text = running.client.get("/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    label = '{model_name="tiny"}'
    prompt = sum(usage["prompt_tokens"] for usage in usages)
    assert values[f"vllm:prompt_tokens_total{label}"] == str(prompt)
    assert values[f"vllm:generation_tokens_total{label}"] == "8"
    assert values[f"vllm:time_to_first_token_seconds_count{label}"] == "2"
    assert values[f"vllm:inter_token_latency_seconds_count{label}"] == "6"
    assert values[f"vllm:num_requests_running{label}"] == "0"
    assert values['vllm:request_generation_tokens_bucket{model_name="tiny",le="5"}'] == "2"
    assert values['vllm:request_generation_tokens_bucket{model_name="tiny",le="2"}'] == "0"


def test_each_request_gets_the_adapter_that_it_names(
    chat_folder: str, adapter_folders: dict[str, str]
) -> None:
    prompt = {"prompt": "def add", "max_tokens": 16, "temperature": 0}
    names = ["base", "first", "second"]
    alone = {}
    for name, folder in (("base", chat_folder), *adapter_folders.items()):
        with running_server(load_transformers_model(name, folder, {})) as running:
            alone[name] = running.complete(**prompt)["choices"][0]["text"]
    assert len(set(alone.values())) == 3
    with running_server(load_transformers_model("base", chat_folder, adapter_folders)) as running:
        listed = running.client.get("/v1/models").json()["data"]
        assert [one["id"] for one in listed] == names
        with ThreadPoolExecutor(9) as pool:
            found = list(pool.map(lambda name: running.complete(model=name, **prompt), names * 3))
        header = {"X-Amzn-SageMaker-Adapter-Identifier": "second"}
        by_header = running.post("/invocations", prompt, **header).json()
    assert [one["choices"][0]["text"] for one in found] == [alone[name] for name in names] * 3
    assert by_header["choices"][0]["text"] == alone["second"]


def test_a_failed_step_fails_its_requests_and_no_others(served: TransformersServedModel) -> None:
    from dataclasses import replace

    class FailingExecutor:
        armed = threading.Event()

        def __getattr__(self, name: str) -> Any:
            return getattr(served.executor, name)

        def forward(self, *arguments: Any) -> Any:
            if self.armed.is_set():
                self.armed.clear()
                raise MemoryError("planted")
            return served.executor.forward(*arguments)

    executor = FailingExecutor()
    with running_server(replace(served, executor=executor)) as running:
        executor.armed.set()
        status, message = running.error(TEXT, {"prompt": "x", "ignore_eos": True})
        assert (status, message) == (500, "the engine failed: MemoryError: planted")
        assert running.complete("x", max_tokens=3)["choices"]


@pytest.mark.slow
def test_a_thousand_clients_at_once_each_get_one_clear_answer(
    served: TransformersServedModel,
) -> None:
    import asyncio
    from collections import Counter

    import httpx2

    async def ask(client: httpx2.AsyncClient, place: int) -> int:
        body = {"prompt": f"str {place}", "max_tokens": 4, "ignore_eos": True}
        response = await client.post(TEXT, json=body)
        if response.status_code == 200:
            assert response.json()["usage"]["completion_tokens"] == 4
        else:
            assert "in progress or waiting" in response.json()["error"]["message"]
        return response.status_code

    async def crowd(url: str) -> Counter[int]:
        limits = httpx2.Limits(max_connections=1000)
        async with httpx2.AsyncClient(base_url=url, timeout=300, limits=limits) as client:
            return Counter(await asyncio.gather(*(ask(client, place) for place in range(1000))))

    with running_server(served, max_running=16, max_waiting=64) as running:
        statuses = asyncio.run(crowd(running.url))
        assert set(statuses) <= {200, 429}
        assert sum(statuses.values()) == 1000
        assert statuses[200] >= 80
        running.wait_until_idle()
        assert running.complete("x", max_tokens=1)["choices"]
