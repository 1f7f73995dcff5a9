"""Likelihoods and answers of a model, compared with a plain computation and with lm-eval."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evaluation.config.tasks import GenerationTask, MultipleChoice, Perplexity
from evaluation.items import Prompt, read_items
from evaluation.models.base import GenerationSettings, LogLikelihood, TooLong
from evaluation.models.transformers_model import TransformersModel
from evaluation.models.windows import text_windows
from evaluation.scores.base import ScoreContext
from evaluation.task_runner import TaskScores, run_task
from tests.run_commands import ROOT
from training.errors import ModelError

SHARED = ROOT.parent / "shared/data"
CPU = torch.device("cpu")
CONTEXT = ScoreContext(CPU, Path(), Path())
TEXTS = ["def add(a, b): return a + b", "Return the number.", "x", "a longer text. " * 12]


def model(folder: str, batch_size: int = 4) -> TransformersModel:
    return TransformersModel(folder, folder, CPU, batch_size)


def plain_nats(folder: str, context: list[int], continuation: list[int]) -> float:
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = network(torch.tensor([context + continuation])).logits[0]
    log_probs = logits.log_softmax(-1)
    return sum(
        float(log_probs[len(context) + at - 1, token]) for at, token in enumerate(continuation)
    )


def test_likelihoods_equal_a_plain_forward_pass(tiny: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    (found,) = model(tiny).log_likelihoods([("def add(a, b):", " return a + b")])
    both = tokenizer("def add(a, b): return a + b")["input_ids"]
    length = len(tokenizer("def add(a, b):")["input_ids"])
    assert isinstance(found, LogLikelihood)
    assert found.nats == pytest.approx(plain_nats(tiny, both[:length], both[length:]), abs=1e-4)
    assert (found.tokens, found.context_tokens) == (len(both) - length, length)


def test_batches_change_neither_likelihoods_nor_answers(tiny: str) -> None:
    requests = [(text, " value") for text in TEXTS] + [("", "alone")]
    alone, together = model(tiny, 1), model(tiny, 4)
    first, second = alone.log_likelihoods(requests), together.log_likelihoods(requests)
    for one, other in zip(first, second, strict=True):
        assert isinstance(one, LogLikelihood)
        assert isinstance(other, LogLikelihood)
        assert one.nats == pytest.approx(other.nats, abs=1e-4)
    for temperature in (0.0, 1.0):
        settings = GenerationSettings(12, samples=2, temperature=temperature)
        assert alone.generate(TEXTS, settings) == together.generate(TEXTS, settings)


def test_a_request_beyond_the_context_is_not_made(tiny: str) -> None:
    long = "word " * 300
    fits, does_not = model(tiny).log_likelihoods([("short", " a"), (long, " a")])
    assert isinstance(fits, LogLikelihood)
    assert does_not == TooLong("longer than the context of 256 tokens")
    (answer,) = model(tiny).generate([long], GenerationSettings(8))
    assert answer == TooLong("longer with 8 new tokens than the context of 256 tokens")


def test_conversation_without_a_chat_template_is_refused(tiny: str) -> None:
    conversation: Prompt = [{"role": "user", "content": "Hello"}]
    with pytest.raises(ModelError, match=r"has no chat template.*Leave out chat"):
        model(tiny).generate([conversation], GenerationSettings(4))
    with pytest.raises(ModelError, match="has no chat template"):
        model(tiny).log_likelihoods([(conversation, " a")])


def test_context_includes_a_scaling_of_rotary_positions(tiny: str) -> None:
    scaled = model(tiny)
    scaled._model.config.rope_parameters = {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256,
    }  # fmt: skip
    assert scaled.info.settings["context_length"] == 1024


def test_windows_predict_every_token_once(tiny: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    text = "def add(a, b): return a + b\n" * 20
    ids = tokenizer(text)["input_ids"]
    windows = list(text_windows(tokenizer, text, 50))
    assert [token for window in windows for token in window.continuation] == ids
    assert all(len(window.ids) <= 50 for window in windows)
    assert all(window.context for window in windows)
    nats = sum(plain_nats(tiny, window.context, window.continuation) for window in windows)
    narrow = model(tiny)
    narrow._model.config.max_position_embeddings = 50
    (found,) = narrow.text_log_likelihoods([text])
    assert found.nats == pytest.approx(nats, rel=1e-5)


def test_an_answer_ends_at_a_stop_text(tiny: str) -> None:
    settings = GenerationSettings(30, temperature=1.0)
    (whole,) = model(tiny).generate([TEXTS[0]], settings)
    assert not isinstance(whole, TooLong)
    stop = whole.texts[0][5:8]
    stopped = GenerationSettings(30, stop=(stop,), temperature=1.0)
    (cut,) = model(tiny).generate([TEXTS[0]], stopped)
    assert not isinstance(cut, TooLong)
    assert cut.texts[0] == whole.texts[0][: whole.texts[0].find(stop)]
    assert cut.truncated == (False,)


# --- lm-eval --------------------------------------------------------------------------------------

LM_EVAL: dict[str, Any] = json.loads(
    Path(__file__).with_name("lm_eval").joinpath("results.json").read_text(encoding="utf-8")
)
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the results of lm-eval are of ../shared/data, which is absent"
)


@pytest.fixture(scope="module")
def stories() -> TransformersModel:
    return model(str(SHARED / "models/stories260K-hf"), 8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lm-eval")
    rows = pyarrow.parquet.read_table(SHARED / "eval/mmlu.parquet").to_pylist()
    validation = [row for row in rows if row["split"] == "validation"][::37][:40]
    books = pyarrow.parquet.read_table(SHARED / "pretrain/standard_ebooks.parquet").to_pylist()
    texts = [{"text": books[row]["text"][:size]} for row, size in LM_EVAL["rows"]["text_rows"]]
    named = {"dev": [row for row in rows if row["split"] == "dev"][:5]}
    for name, chosen in {**named, "mmlu": validation, "texts": texts}.items():
        lines = "".join(json.dumps(row) + "\n" for row in chosen)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def run(task: Any, stories: TransformersModel) -> TaskScores:
    return run_task(task, read_items(task), stories, CONTEXT)


@needs_shared
@pytest.mark.parametrize("shots", ["zero_shot", "two_shot"])
def test_multiple_choice_equals_lm_eval(
    stories: TransformersModel, files: Path, shots: str
) -> None:
    few_shot = {"count": 2, "data": str(files / "dev.jsonl")} if shots == "two_shot" else None
    task = MultipleChoice.model_validate(
        {
            "name": "mmlu", "kind": "multiple_choice", "data": str(files / "mmlu.jsonl"),
            "prompt": "Question: {{question}}\nAnswer:", "choices": "{{choices}}",
            "target": "answer", "few_shot": few_shot,
        }
    )  # fmt: skip
    reference = LM_EVAL[shots]
    scores = run(task, stories)
    # lm-eval cuts the start of prompts that are too long; here they are not scored.
    kept = [number for number, item in enumerate(scores.items) if item.skipped is None]
    assert len(kept) >= 32
    for number in kept:
        found = [nats for _, nats in scores.items[number].detail["log_likelihoods"]]
        assert found == pytest.approx(reference["log_likelihoods"][number], rel=1e-6)
        assert scores.items[number].scores == {
            "accuracy": reference["acc"][number],
            "accuracy_norm": reference["acc_norm"][number],
        }


@needs_shared
def test_perplexity_equals_lm_eval(stories: TransformersModel, files: Path) -> None:
    data = str(files / "texts.jsonl")
    task = Perplexity.model_validate(
        {"name": "books", "kind": "perplexity", "data": data, "text": "text"}
    )
    metrics = run(task, stories).metrics
    for name in ("bits_per_byte", "byte_perplexity", "word_perplexity"):
        assert metrics[name].value == pytest.approx(LM_EVAL[name], rel=1e-6)
    assert metrics["bits_per_byte"].value == pytest.approx(
        math.log2(metrics["byte_perplexity"].value)
    )


@needs_shared
def test_answers_equal_those_of_lm_eval(stories: TransformersModel, files: Path) -> None:
    task = GenerationTask.model_validate(
        {
            "name": "mmlu", "kind": "generation", "data": str(files / "mmlu.jsonl"),
            "prompt": "{{question}}\nAnswer:", "target": "{{choices[answer]}}", "stop": ["\n\n"],
            "max_new_tokens": 24, "scores": [{"kind": "exact_match"}],
        }
    )  # fmt: skip
    items = run(task, stories).items
    kept = [number for number, item in enumerate(items) if item.skipped is None]
    assert len(kept) >= 39
    for number in kept:
        assert items[number].answers == (LM_EVAL["generated"][number],)
