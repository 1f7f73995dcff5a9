"""Results of a real model through an endpoint, compared with those of the same model here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer

from evaluation.config.endpoints import OpenAiModel
from evaluation.config.suite import Suite
from evaluation.items import read_items
from evaluation.models.endpoint_model import EndpointModel
from evaluation.models.transformers_model import TransformersModel
from evaluation.scores.base import ScoreContext
from evaluation.task_runner import TaskScores, run_task
from tests.completions_server import CompletionsServer, serving_model
from tests.factories import make_tiny_model
from tests.run_commands import ROOT
from training.judges.base import JudgeContext

SHARED = ROOT.parent / "shared/data"
STORIES = str(SHARED / "models/stories260K-hf")
CPU = torch.device("cpu")
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real model is in ../shared/data, which is absent"
)
pytestmark = needs_shared
STARTS = (
    "Once upon a time there was a dog named Max. Max liked to",
    "Lily and Tom went to the park. They saw a big",
    "The sun was hot, and the little bird was",
    'One day, a girl found a shiny key. "What is this?" she asked. Her mother',
    "Ben had a red ball.",
)
ENDS = (" play in the park", " tree", " eat the moon", " very happy", " said yes.")


@pytest.fixture(scope="module")
def server() -> Iterator[CompletionsServer]:
    with serving_model(STORIES) as served:
        yield served


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return truth_suite(tmp_path_factory.mktemp("truth"))


def truth_suite(folder: Path) -> Suite:
    """Write a multiple choice, a perplexity and a generation of five stories into a folder."""
    rows = [
        {"start": start, "ends": [*ENDS[number:], *ENDS[:number]], "right": number % 5}
        for number, start in enumerate(STARTS)
    ]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = [
        {
            "name": "choice", "kind": "multiple_choice", "data": str(data), "prompt": "start",
            "choices": "ends", "target": "right", "target_delimiter": "",
        },
        {
            "name": "text", "kind": "perplexity", "data": str(data),
            "text": "{{start}}{{ends[0]}}",
        },
        {
            "name": "answers", "kind": "generation", "data": str(data), "prompt": "start",
            "target": "{{ends[0]}}", "max_new_tokens": 24, "stop": ["."],
            "scores": [{"kind": "token_f1"}],
        },
    ]  # fmt: skip
    return Suite.model_validate({"suite": "truth", "tasks": tasks})


def scores(suite: Suite, model: Any) -> dict[str, TaskScores]:
    context = ScoreContext(CPU, Path(), Path())
    return {task.name: run_task(task, read_items(task), model, context) for task in suite.tasks}


def section_of(url: str, model: str, **keys: Any) -> OpenAiModel:
    return OpenAiModel.model_validate({"kind": "openai", "url": url, "model": model, **keys})


def endpoint(server: CompletionsServer, suite: Suite, folder: Path, **keys: Any) -> EndpointModel:
    section = section_of(server.url, server.name, **keys)
    context = JudgeContext(CPU, folder / "out", folder / "cache", role="endpoint")
    model = EndpointModel(server.url, section, context)
    model.prepare(suite, {task.name: read_items(task) for task in suite.tasks})
    return model


@pytest.fixture(scope="module")
def local(suite: Suite) -> dict[str, TaskScores]:
    return scores(suite, TransformersModel(STORIES, STORIES, CPU, 4))


@pytest.mark.parametrize("tokenizer", [None, pytest.param(STORIES, marks=pytest.mark.slow)])
def test_choices_and_answers_equal_those_of_the_model_here(
    server: CompletionsServer, suite: Suite, local: dict[str, TaskScores], tmp_path: Path,
    tokenizer: str | None,
) -> None:  # fmt: skip
    remote = scores(suite, endpoint(server, suite, tmp_path, tokenizer=tokenizer))
    for one, other in zip(remote["choice"].items, local["choice"].items, strict=True):
        found = [nats for _, nats in one.detail["log_likelihoods"]]
        expected = [nats for _, nats in other.detail["log_likelihoods"]]
        assert found == pytest.approx(expected, rel=1e-6)
        assert (one.scores, one.answers) == (other.scores, other.answers)
        assert one.prompt_tokens == other.prompt_tokens
    assert len({item.answers for item in local["answers"].items}) == len(STARTS)
    for one, other in zip(remote["answers"].items, local["answers"].items, strict=True):
        # Decoded alone, the first token of an answer has no space before it.
        assert one.answers[0].removeprefix(" ") == other.answers[0]
        assert (one.scores, one.prompt_tokens) == (other.scores, other.prompt_tokens)
        assert one.detail == other.detail


def test_perplexity_of_tokens_equals_that_of_the_model_here(
    server: CompletionsServer, suite: Suite, local: dict[str, TaskScores], tmp_path: Path
) -> None:
    model = endpoint(server, suite, tmp_path, tokenizer=STORIES)
    remote = scores(suite, model)["text"]
    assert "as by a local evaluation" in model.info.settings["first_token"]
    for name, metric in local["text"].metrics.items():
        assert remote.metrics[name].value == pytest.approx(metric.value, rel=1e-6)


def test_perplexity_of_text_is_that_after_the_start_token_of_the_endpoint(
    server: CompletionsServer, suite: Suite, tmp_path: Path
) -> None:
    model = endpoint(server, suite, tmp_path)
    assert "that the endpoint puts before a text" in model.info.settings["first_token"]
    network = AutoModelForCausalLM.from_pretrained(STORIES, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(STORIES)
    texts = [f"{start}{end}" for start, end in zip(STARTS, ENDS, strict=True)]
    for text, found in zip(texts, model.text_log_likelihoods(texts), strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        assert ids[0, 0] == tokenizer.bos_token_id
        with torch.no_grad():
            loss = network(ids, labels=ids).loss
        tokens = ids.shape[1] - 1
        assert found.tokens == tokens
        assert found.nats == pytest.approx(-float(loss) * tokens, rel=1e-6)


def test_windows_of_a_long_text_predict_every_token_once(
    server: CompletionsServer, suite: Suite, tmp_path: Path
) -> None:
    model = endpoint(server, suite, tmp_path, tokenizer=STORIES, context_length=40)
    tokenizer = AutoTokenizer.from_pretrained(STORIES)
    text = " ".join(STARTS)
    (found,) = model.text_log_likelihoods([text])
    assert found.tokens == len(tokenizer(text)["input_ids"])
    assert len([body for _, body in server.calls if len(body.get("prompt", "")) == 39]) >= 2


def test_an_endpoint_without_a_start_token_leaves_the_first_token_out(
    suite: Suite, tmp_path: Path
) -> None:
    tiny = str(make_tiny_model(tmp_path / "tiny"))
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A")
    tokenizer.save_pretrained(tiny)
    text = "Return the number."
    with serving_model(tiny, "tiny") as served:
        model = endpoint(served, suite, tmp_path)
        assert model.info.settings["first_token"].startswith("not scored")
        (found,) = model.text_log_likelihoods([text])
        exact = endpoint(served, suite, tmp_path, tokenizer=tiny).text_log_likelihoods([text])
    assert found.tokens == len(tokenizer(text)["input_ids"]) - 1
    (expected,) = TransformersModel(tiny, tiny, CPU, 1).text_log_likelihoods([text])
    assert exact[0].nats == pytest.approx(expected.nats, rel=1e-6)
    assert exact[0].tokens == expected.tokens == found.tokens + 1
