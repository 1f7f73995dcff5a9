"""A GGUF file is evaluated as the model that it was written from, with its own tokenizer."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from gguf import GGUFWriter
from transformers import AutoTokenizer

from evaluation.command import EvaluateOptions, run_evaluation
from evaluation.models.base import GeneratedAnswers, GenerationSettings, LogLikelihood
from evaluation.models.gguf_model import find_gguf, load_gguf
from evaluation.models.load import model_folder
from evaluation.models.transformers_model import TransformersModel
from evaluation.results import read_results
from tests.factories import write_jsonl
from tests.parity.test_gguf import TEXTS, make
from tests.run_commands import ROOT
from training.errors import ModelError
from training.export.formats import gguf
from training.export.gguf_file import write_dequantized

SHARED = ROOT.parent / "shared/data"
REQUESTS = [(text, answer) for text in TEXTS for answer in (" Yes", " no", " value of 12")]


def evaluated(source: Path) -> TransformersModel:
    return TransformersModel(str(source), model_folder(str(source)), torch.device("cpu"), 4)


def nats(model: TransformersModel) -> list[float]:
    outcomes = model.log_likelihoods(REQUESTS) + list(model.text_log_likelihoods(TEXTS))
    assert all(isinstance(outcome, LogLikelihood) for outcome in outcomes)
    return [outcome.nats for outcome in outcomes if isinstance(outcome, LogLikelihood)]


def answers(model: TransformersModel) -> list[str]:
    outcomes = model.generate(TEXTS, GenerationSettings(12))
    texts = [outcome.texts[0] for outcome in outcomes if isinstance(outcome, GeneratedAnswers)]
    assert len(texts) == len(TEXTS)
    # Rows of the embeddings without a token have a name in a GGUF file.
    return [re.sub(r"\[PAD\d+\]", "", text) for text in texts]


@pytest.mark.parametrize(
    "case",
    [
        "llama, positions of 3.1",
        "qwen3",
        *(
            pytest.param(case, marks=pytest.mark.slow)
            for case in ("llama", "llama, linear positions", "llama fp16", "mistral", "qwen2")
        ),
    ],
)
def test_scores_and_answers_equal_those_of_the_safetensors(case: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "model", case)
    gguf(folder, tmp_path / "out/model.gguf")
    mine, there = evaluated(folder), evaluated(tmp_path / "out")
    assert nats(there) == pytest.approx(nats(mine), abs=1e-4)
    assert answers(there) == answers(mine)


def test_a_quantized_file_equals_its_dequantized_weights(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", "llama")
    path = tmp_path / "out/model-Q8_0.gguf"
    gguf(folder, path, outtype="Q8_0")
    write_dequantized(path, folder, tmp_path / "plain", "Q8_0")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(folder / name, tmp_path / "plain" / name)
    quantized = evaluated(path)
    assert nats(quantized) == pytest.approx(nats(evaluated(tmp_path / "plain")), abs=1e-4)
    assert nats(quantized) != pytest.approx(nats(evaluated(folder)), abs=1e-2)
    info = quantized.info
    assert (info.kind, info.settings["weights"]) == ("gguf", "dequantized from Q8_0")
    assert info.digest is not None


def test_the_command_compares_a_file_with_its_model(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", "qwen3")
    gguf(folder, tmp_path / "model-Q4_0.gguf", outtype="Q4_0")
    write_jsonl(tmp_path / "texts.jsonl", [{"text": text} for text in TEXTS * 4])
    suite = tmp_path / "suite.yaml"
    task = "{name: texts, kind: perplexity, data: texts.jsonl, text: text}"
    suite.write_text(f"suite: quantized\ntasks:\n  - {task}\n")
    out = tmp_path / "results"
    run_evaluation(EvaluateOptions(str(tmp_path / "model-Q4_0.gguf"), suite, str(folder), out))
    results = read_results(out)
    assert results.model.kind == "gguf"
    assert results.tasks["texts"].comparison["bits_per_byte"].difference != 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="the texts are of ../shared/data, which is absent")
@pytest.mark.parametrize(
    "case",
    ["stories260K", *(pytest.param(case, marks=pytest.mark.slow) for case in ("llama", "qwen2"))],
)
def test_the_tokenizer_of_a_file_gives_the_ids_of_the_original(case: str, tmp_path: Path) -> None:
    folder = SHARED / "models/stories260K-hf"
    if case != "stories260K":
        folder = make(tmp_path / "model", case)
    gguf(folder, tmp_path / "model.gguf")
    mine = AutoTokenizer.from_pretrained(folder)
    _, there, _ = load_gguf(tmp_path / "model.gguf", torch.device("cpu"))
    texts = real_texts()
    assert len(texts) == 200
    different = [text for text in texts if mine(text)["input_ids"] != there(text)["input_ids"]]
    # Qwen's tokenizer first normalizes text to NFC, for which GGUF has no field. One text, in
    # Bengali, is not in NFC.
    assert len(different) == (1 if case == "qwen2" else 0)
    assert mine.chat_template == there.chat_template


def real_texts() -> list[str]:
    """Return questions, programs, and prose in 26 languages."""

    def lines(name: str) -> list[dict[str, str]]:
        path = SHARED / name
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return [json.loads(line) for line in text.splitlines()]

    return [
        *(row["question"] for row in lines("eval/gsm8k_test.jsonl")[:50]),
        *(row["prompt"] for row in lines("eval/humaneval.jsonl")[:50]),
        *(row["question"] for row in lines("multilingual/mgsm.jsonl.gz")[::10][:50]),
        *(row["text"][:400] for row in lines("multilingual/udhr.jsonl.gz")),
        *(row["text"][:400] for row in lines("domain/python_peps.jsonl.gz")[:28]),
    ]


def test_what_cannot_be_evaluated_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"broken.gguf cannot be read as GGUF"):
        evaluated(broken)
    for architecture, key, why in (
        ("gemma3", "", "its architecture, gemma3, is not among the verified ones"),
        ("llama", "expert_count", "a mixture of 8 experts"),
        ("qwen2", "attention.sliding_window", "its attention slides over 8 tokens"),
    ):
        path = tmp_path / f"{architecture}.gguf"
        writer = GGUFWriter(path, architecture)
        if key:
            writer.add_uint32(f"{architecture}.{key}", 8)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with pytest.raises(ModelError, match=rf"{path.name} cannot be evaluated here: .*{why}"):
            evaluated(path)
    with pytest.raises(ModelError, match=r"4 GGUF files: broken.gguf, gemma3.gguf.*Name one"):
        find_gguf(str(tmp_path))
