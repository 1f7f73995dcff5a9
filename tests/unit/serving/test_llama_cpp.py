"""A GGUF file served by llama.cpp gives what an evaluation of the file gives."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFWriter
from transformers import AutoTokenizer

from evaluation.models.base import GeneratedAnswers, GenerationSettings, LogLikelihood
from evaluation.models.gguf_model import load_gguf
from evaluation.models.transformers_model import TransformersModel
from serving.llama_cpp.metadata import read_metadata
from serving.load import load_served_model
from temper.cli import main
from tests.parity.test_gguf import TEXTS, make
from tests.run_commands import ROOT
from tests.unit.serving.running import RunningServer, running_server
from training.errors import ModelError
from training.export.formats import gguf

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: make .venv/.llama-cpp")
STORIES = ROOT.parent / "shared/data/models/stories260K-hf"
TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
PROMPTS = ("Once upon a time", "Tom and his dog", "The sun was", "Lily had a big red ball. She")
TEXT, CHAT = "/v1/completions", "/v1/chat/completions"
TOLERANCE = 0.01
"""Largest difference of a log-probability with weights, keys and values in fp32."""


def export(folder: Path, case: str, outtype: str = "F32") -> Path:
    path = folder / f"{outtype}.gguf"
    gguf(make(folder / "model", case), path, **({} if outtype == "F32" else {"outtype": outtype}))
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GGUF file of a trained model, whose likely tokens rounding does not change."""
    if not STORIES.is_dir():
        pytest.skip("needs the trained model of ../shared/data")
    path: Path = tmp_path_factory.mktemp("gguf") / "F32.gguf"
    model = path.with_name("model")
    shutil.copytree(STORIES, model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(model)
    gguf(model, path)
    return path


@pytest.fixture(scope="module")
def running(file: Path) -> Iterator[RunningServer]:
    with running_server(load_served_model("tiny", str(file), {}), max_running=4) as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("case", ["llama", "llama, positions of 3.1", "mistral", "qwen2"])
def test_log_probabilities_and_ids_are_those_of_the_evaluation(case: str, tmp_path: Path) -> None:
    """In fp32: rounding to 8 bits changes the likeliest token of a model with random weights."""
    path = export(tmp_path, case)
    network, tokenizer, _ = load_gguf(path, torch.device("cpu"))
    words = " ".join(TEXTS).split()
    prompts = [" ".join(words[:end]) for end in range(1, len(words), 2)]
    scored = 0
    with running_server(load_served_model("tiny", str(path), {}), max_running=4) as server:
        texts = server.served.formats[None].token_texts
        for prompt in prompts:
            ids = tokenizer(prompt)["input_ids"]
            with torch.inference_mode():
                log_probs = network(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            body = {"prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 5}
            response = server.post(TEXT, body)
            if response.status_code == 500:
                message = response.json()["error"]["message"]
                assert "no log-probability of a token that is a part of a character" in message
                assert texts[int(log_probs.argmax())].startswith("bytes:")
                continue
            scored += 1
            answer = response.json()
            assert answer["usage"]["prompt_tokens"] == len(ids)
            found = answer["choices"][0]["logprobs"]
            token = next(
                t for t in log_probs.topk(2).indices.tolist() if texts[t] == found["tokens"][0]
            )
            assert log_probs.max() - log_probs[token] <= TOLERANCE, "the greedy token"
            (value,), (top,) = found["token_logprobs"], found["top_logprobs"]
            assert value == pytest.approx(float(log_probs[token]), abs=TOLERANCE)
            expected = sorted(log_probs.topk(5).values.tolist())
            assert sorted(top.values()) == pytest.approx(expected, abs=TOLERANCE)
    assert scored > len(prompts) / 2


@pytest.mark.slow
@pytest.mark.skipif(not STORIES.is_dir(), reason="needs the trained model of ../shared/data")
@pytest.mark.parametrize(("outtype", "tolerance"), [("F32", 0.01), ("Q8_0", 0.1)])
def test_each_token_of_a_trained_model(outtype: str, tolerance: float, tmp_path: Path) -> None:
    path = tmp_path / "stories.gguf"
    gguf(STORIES, path, **({} if outtype == "F32" else {"outtype": outtype}))
    network, tokenizer, _ = load_gguf(path, torch.device("cpu"))
    with running_server(load_served_model("tiny", str(path), {})) as server:
        body = {"prompt": "Once upon a time", "max_tokens": 60, "temperature": 0, "logprobs": 3}
        choice = server.post(TEXT, body).json()["choices"][0]
        texts = server.served.formats[None].token_texts
    ids = tokenizer("Once upon a time")["input_ids"]
    start = len(ids)
    for token, value in zip(
        choice["logprobs"]["tokens"], choice["logprobs"]["token_logprobs"], strict=True
    ):
        with torch.inference_mode():
            log_probs = network(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        ids.append(int(log_probs.argmax()))
        assert token == texts[ids[-1]]
        assert value == pytest.approx(float(log_probs[ids[-1]]), abs=tolerance)
    assert choice["text"] == tokenizer.decode(ids[start:], skip_special_tokens=True)
    assert choice["text"].startswith(", there was a little girl named Lily. She loved to play")


def test_answers_are_those_of_the_evaluation(running: RunningServer, file: Path) -> None:
    evaluated = TransformersModel(str(file), str(file), torch.device("cpu"), 4)
    chats = [[{"role": "user", "content": text}] for text in PROMPTS]
    prompts: list[Any] = [*PROMPTS, *chats]
    expected = [
        outcome.texts[0]
        for outcome in evaluated.generate(prompts, GenerationSettings(12))
        if isinstance(outcome, GeneratedAnswers)
    ]
    greedy = {"max_tokens": 12, "temperature": 0}
    found = [one["text"] for one in running.complete(list(PROMPTS), **greedy)["choices"]]
    for messages in chats:
        answer = running.post(CHAT, {"messages": messages, **greedy}).json()["choices"][0]
        events = running.stream(CHAT, {"messages": messages, **greedy})
        parts = [event["choices"][0]["delta"]["content"] for event in events]
        assert "".join(parts) == answer["message"]["content"]
        found.append(answer["message"]["content"])
    assert found == expected


@pytest.mark.slow
def test_a_file_that_transformers_computes_is_served_as_it_is_evaluated(file: Path) -> None:
    evaluated = TransformersModel(str(file), str(file), torch.device("cpu"), 4)
    outcomes = evaluated.generate(list(PROMPTS), GenerationSettings(12))
    expected = [one.texts[0] for one in outcomes if isinstance(one, GeneratedAnswers)]
    (score,) = evaluated.log_likelihoods([("Once upon", " a time")])
    assert isinstance(score, LogLikelihood)
    with running_server(load_served_model("tiny", str(file), {}, "transformers")) as server:
        found = server.complete(list(PROMPTS), max_tokens=12, temperature=0)
        echo = server.complete("Once upon a time", max_tokens=0, echo=True, logprobs=1)
    assert [one["text"] for one in found["choices"]] == expected
    values = echo["choices"][0]["logprobs"]["token_logprobs"][score.context_tokens :]
    assert sum(values) == pytest.approx(score.nats, abs=1e-5 * score.tokens)


def test_samples_have_their_seeds_and_stops(running: RunningServer) -> None:
    body = {"prompt": PROMPTS[0], "max_tokens": 20, "temperature": 1.0, "n": 3, "seed": 4}
    first, again = (running.post(TEXT, body).json()["choices"] for _ in range(2))
    assert first == again
    assert len({choice["text"] for choice in first}) == 3
    assert running.post(TEXT, {**body, "seed": 5}).json()["choices"] != first
    text = first[0]["text"]
    stopped = running.post(TEXT, {**body, "stop": [text[5:8]]}).json()["choices"][0]
    assert (stopped["text"], stopped["finish_reason"]) == (text[: text.find(text[5:8])], "stop")


def test_usage_counts_each_token_once(running: RunningServer) -> None:
    body = {
        "prompt": PROMPTS[2],
        "max_tokens": 40,
        "temperature": 1.5,
        "seed": 1,
        "ignore_eos": True,
    }
    events = running.stream(TEXT, {**body, "stream_options": {"include_usage": True}})
    assert events[-1]["usage"]["completion_tokens"] == 40
    assert running.post(TEXT, body).json()["usage"]["completion_tokens"] == 40


def test_what_llama_cpp_cannot_report_is_refused(running: RunningServer) -> None:
    status, message = running.error(TEXT, {"prompt": "x", "echo": True, "logprobs": 1})
    assert status == 400
    assert "does not report the log-probabilities of a prompt" in message
    assert running.complete("x y", max_tokens=0, echo=True)["choices"][0]["text"] == "x y"
    status, message = running.error("/adapters", {"name": "a", "src": "/x"})
    assert (status, "this engine loads no adapters" in message) == (400, True)
    assert running.client.get("/adapters").json() == {"adapters": []}
    long = {"prompt": "x y z " * 200, "max_tokens": 4}
    status, message = running.error(TEXT, long)
    assert (status, "this model's context is 512 tokens" in message) == (400, True)


def test_a_client_that_closes_the_connection_frees_its_place(running: RunningServer) -> None:
    # More answers than are in progress at a time: some wait when the connection closes.
    body = {"prompt": ["x"] * 60, "max_tokens": 250, "ignore_eos": True, "stream": True}
    with running.client.stream("POST", TEXT, json=body) as response:
        next(response.iter_lines())
    running.wait_until_idle()
    metrics = running.client.get("/metrics").text
    assert re.search(r'success_total{model_name="tiny",finished_reason="abort"} [1-9]', metrics)
    assert running.complete("x", max_tokens=3)["choices"]


def test_more_clients_than_places_are_all_answered(file: Path) -> None:
    served = load_served_model("tiny", str(file), {})
    with running_server(served, max_running=3) as running:
        texts: list[str] = []
        prompts = [f"{PROMPTS[place % 4]} {place}" for place in range(24)]

        def ask(prompt: str) -> None:
            answer = running.complete(prompt, max_tokens=9, temperature=0)
            texts.append(answer["choices"][0]["text"])

        threads = [threading.Thread(target=ask, args=(prompt,)) for prompt in prompts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        alone = [
            running.complete(prompt, max_tokens=9, temperature=0)["choices"][0]["text"]
            for prompt in prompts
        ]
    assert sorted(texts) == sorted(alone)


def test_a_late_request_and_one_during_the_stop_end_in_an_error(file: Path) -> None:
    with running_server(load_served_model("t", str(file), {}), timeout=1e-3) as running:
        status, message = running.error(TEXT, {"prompt": "x", "max_tokens": 200})
        assert (status, message) == (504, "the request timed out")
    engine = running.service.engine
    until = time.monotonic() + 5
    while engine.alive:
        assert time.monotonic() < until


@pytest.mark.parametrize(
    ("architecture", "context", "why"),
    [
        ("mmproj", None, r"has no context_length"),
        ("newnet", 64, r"the tokenizer of .* \(architecture newnet\) could not be read"),
    ],
)
def test_files_of_unknown_models(
    architecture: str, context: int | None, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "file.gguf"
    writer = GGUFWriter(path, architecture)
    if context:
        writer.add_context_length(context)
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(["a", "b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match=why):
        load_served_model("x", str(path), {})


def test_a_file_that_llama_cpp_cannot_load(file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[:-4096])
    with pytest.raises(ModelError, match=r"cut.gguf"):
        load_served_model("x", str(cut), {}).build_engine(1)
    assert read_metadata(file).cache_bytes == 5 * 4 * 2 * 8 * 4


def test_wrong_uses_of_the_engine(
    file: Path, chat_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--port", "0", "--engine", "llama.cpp"]
    assert main(["serve", chat_folder, *arguments]) == 4
    assert "is not a GGUF file, which --engine llama.cpp needs" in capsys.readouterr().err
    assert main(["serve", str(file), *arguments, "--adapter", f"a={chat_folder}"]) == 4
    assert "adapters (a) cannot be served with the GGUF file" in capsys.readouterr().err
