"""The server and `temper evaluate` give the same tokens, answers and log-probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.models.base import GeneratedAnswers, GenerationSettings, LogLikelihood
from evaluation.models.transformers_model import TransformersModel
from serving.load import load_served_model
from tests.run_commands import ROOT
from tests.unit.serving.running import RunningServer, running_server

STORIES = ROOT.parent / "shared/data/models/stories260K-hf"
ADAPTER_TOLERANCE = 1e-4
"""Largest difference of a log-probability between an adapter that is merged and one that is not."""
PROMPTS = ["def add(a, b):", "Return the number of items in a container.", "x", "str " * 40]
CHATS = [
    [{"role": "user", "content": text}] for text in ("What is str.join?", "Ha <s> ha", "ü" * 9)
] + [
    [
        {"role": "system", "content": "Short."},
        {"role": "user", "content": "What is int?"},
        {"role": "assistant", "content": "A number."},
        {"role": "user", "content": "And float?"},
    ]
]


@pytest.fixture(scope="module")
def evaluated(chat_folder: str) -> TransformersModel:
    return TransformersModel(chat_folder, chat_folder, torch.device("cpu"), 2)


def answers(model: TransformersModel, prompts: list[Any], **settings: Any) -> list[list[str]]:
    found = model.generate(prompts, GenerationSettings(24, **settings))
    assert all(isinstance(one, GeneratedAnswers) for one in found)
    return [list(one.texts) for one in found if isinstance(one, GeneratedAnswers)]


def test_greedy_completions(server: RunningServer, evaluated: TransformersModel) -> None:
    answer = server.complete(PROMPTS, max_tokens=24, temperature=0)
    texts = [[choice["text"]] for choice in answer["choices"]]
    assert texts == answers(evaluated, list(PROMPTS))


def test_sampled_completions_with_a_seed(
    server: RunningServer, evaluated: TransformersModel
) -> None:
    """The n answers to a prompt are the samples that an evaluation draws with the same seed."""
    expected = answers(evaluated, list(PROMPTS), samples=3, temperature=0.8, seed=5)
    answer = server.complete(PROMPTS, max_tokens=24, temperature=0.8, seed=5, n=3)
    texts = [choice["text"] for choice in answer["choices"]]
    assert [texts[start : start + 3] for start in range(0, 12, 3)] == expected
    assert len({text for group in expected for text in group}) > 8


@pytest.mark.parametrize("stop", [(), ("e", "st")])
def test_chats(server: RunningServer, evaluated: TransformersModel, stop: tuple[str, ...]) -> None:
    expected = answers(evaluated, list(CHATS), stop=stop, temperature=0.7, seed=1)
    for messages, (text,) in zip(CHATS, expected, strict=True):
        body = {"messages": messages, "max_tokens": 24, "temperature": 0.7, "seed": 1}
        if stop:
            body["stop"] = list(stop)
        found = server.post("/v1/chat/completions", body).json()["choices"][0]
        assert found["message"]["content"] == text
        events = server.stream("/v1/chat/completions", body)
        parts = [event["choices"][0]["delta"]["content"] for event in events]
        assert "".join(parts) == text


def test_log_probabilities_of_prompts(server: RunningServer, evaluated: TransformersModel) -> None:
    requests = [("def add(a, b):", " return a + b"), ("x", " y z" * 30), ("str", " join")]
    for (context, text), expected in zip(
        requests, evaluated.log_likelihoods(list(requests)), strict=True
    ):
        assert isinstance(expected, LogLikelihood)
        answer = server.complete(context + text, max_tokens=0, echo=True, logprobs=1)
        found = answer["choices"][0]["logprobs"]
        values = found["token_logprobs"][expected.context_tokens :]
        assert len(values) == expected.tokens
        assert sum(values) == pytest.approx(expected.nats, abs=1e-5 * expected.tokens)
        top = [max(best.values()) for best in found["top_logprobs"][expected.context_tokens :]]
        assert expected.greedy == (values == top)


def test_each_log_probability_is_that_of_a_plain_forward_pass(server: RunningServer) -> None:
    from transformers import AutoModelForCausalLM

    source = server.served.source
    network = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    for prompt in PROMPTS:
        answer = server.complete(prompt, max_tokens=20, echo=True, logprobs=3, temperature=0)
        found = answer["choices"][0]["logprobs"]
        tokenizer = server.served.formats[None].tokenizer
        ids = tokenizer(prompt)["input_ids"]
        with torch.no_grad():
            while len(ids) < len(found["tokens"]):
                ids.append(int(network(torch.tensor([ids])).logits[0, -1].argmax()))
            log_probs = network(torch.tensor([ids])).logits[0].log_softmax(-1)
        for place in range(1, len(ids)):
            expected = float(log_probs[place - 1, ids[place]])
            assert found["token_logprobs"][place] == pytest.approx(expected, abs=1e-5)
            best = sorted(log_probs[place - 1].topk(3).values.tolist())
            top = sorted(found["top_logprobs"][place].values())[-3:]
            assert top == pytest.approx(best, abs=1e-5)
        assert found["token_logprobs"][0] is None


def test_a_pretrained_model_writes_the_published_story(tmp_path: Path) -> None:
    """https://github.com/karpathy/llama2.c/blob/master/doc/stories260K.md has the text."""
    if not STORIES.is_dir():
        pytest.skip("needs the pretrained model of ../shared/data")
    with running_server(load_served_model("stories", str(STORIES), {})) as running:
        text = running.complete("Once upon a time", max_tokens=60, temperature=0)
    assert text["choices"][0]["text"].startswith(
        ", there was a little girl named Lily. She loved to play outside in the park. "
        "One day, she saw a big, red ball."
    )


@pytest.mark.slow
def test_an_adapter_of_a_request_is_served_as_it_is_evaluated(
    chat_folder: str, adapter_folders: dict[str, str]
) -> None:
    """The evaluation merges the adapter; the server, which has two, adds it in each layer."""
    folder = adapter_folders["first"]
    model = TransformersModel(folder, folder, torch.device("cpu"), 2)
    context, text = "def add(a, b):", " return a + b"
    (score,) = model.log_likelihoods([(context, text)])
    assert isinstance(score, LogLikelihood)
    with running_server(load_served_model("tiny", chat_folder, adapter_folders)) as running:
        found = running.complete(PROMPTS, model="first", max_tokens=24, temperature=0)
        body = {"max_tokens": 0, "echo": True, "logprobs": 1}
        echo = running.complete(context + text, model="first", **body)
    assert [[one["text"]] for one in found["choices"]] == answers(model, list(PROMPTS))
    values = echo["choices"][0]["logprobs"]["token_logprobs"][score.context_tokens :]
    assert sum(values) == pytest.approx(score.nats, abs=ADAPTER_TOLERANCE * score.tokens)


@pytest.mark.slow
def test_a_merged_adapter_is_served_as_it_is_evaluated(adapter_folders: dict[str, str]) -> None:
    folder = adapter_folders["first"]
    model = TransformersModel(folder, folder, torch.device("cpu"), 2)
    with running_server(load_served_model("one", folder, {})) as running:
        found = running.complete(PROMPTS, max_tokens=24, temperature=0)
    assert [[one["text"]] for one in found["choices"]] == answers(model, list(PROMPTS))
