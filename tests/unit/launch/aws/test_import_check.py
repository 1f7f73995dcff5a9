"""`temper check-import`: the rules of Bedrock's import, each broken once."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.aws.import_check import check_import
from temper.cli import main

CONFIG: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 8192,
    "rope_theta": 500000.0, "torch_dtype": "bfloat16",
}  # fmt: skip
TOKENIZER = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": "{{ messages }}"}


def write_weights(
    path: Path, dtype: str = "BF16", *, declared: int = 64, written: int = 64
) -> None:
    """Write a safetensors file with one tensor, whose bytes can be fewer than it declares."""
    entry = {"dtype": dtype, "shape": [declared // 2], "data_offsets": [0, declared]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(written))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_weights(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(TOKENIZER))
    (tmp_path / "tokenizer.json").write_text("{}")
    return tmp_path


def config(**keys: Any) -> Callable[[Path], object]:
    return lambda folder: (folder / "config.json").write_text(json.dumps(CONFIG | keys))


def tokenizer(**keys: Any) -> Callable[[Path], object]:
    return lambda folder: (folder / "tokenizer_config.json").write_text(
        json.dumps(TOKENIZER | keys)
    )


def elsewhere(folder: Path) -> None:
    tokenizer(chat_template=None)(folder)
    (folder / "chat_template.jinja").write_text("{{ messages }}")


def test_a_model_that_can_be_imported_is_accepted(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(check_import(model, "us-east-1")) == []
    assert main(["check-import", str(model)]) == 0
    said = capsys.readouterr().out
    assert "has what Bedrock's import asks for in us-east-1" in said
    assert "Converse and InvokeModel take its requests" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (config(model_type="gemma3_text"), "the architecture 'gemma3_text' is not imported"),
        (config(model_type="gpt_oss"), None),
        (config(rope_parameters={"rope_theta": 5e5}), "rope_parameters, which Transformers 4.51.3"),
        (config(quantization_config={"bits": 4}), "its weights are quantized"),
        (config(max_position_embeddings=1 << 20), "its context of 1048576 tokens is longer"),
        (
            config(model_type="qwen3", architectures=["Qwen3ForSequenceClassification"]),
            "only causal language models",
        ),
        (tokenizer(tokenizer_class="TokenizersBackend"), "no tokenizer class TokenizersBackend"),
        (elsewhere, "its chat template is in chat_template.jinja"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "there is no tokenizer.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json in"),
        (lambda f: write_weights(f / "model.safetensors", "F8_E4M3"), "the dtypes F8_E4M3, not"),
        (lambda f: write_weights(f / "model.safetensors", written=8), "is cut off"),
        (lambda f: (f / "model.safetensors").write_text("x"), "is no safetensors file"),
        (lambda f: (f / "adapter_config.json").write_text("{}"), "it is an adapter"),
    ],
)
def test_what_an_import_would_refuse(
    model: Path, change: Callable[[Path], object], said: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    change(model)
    refused = [finding.message for finding in check_import(model, "us-east-1") if finding.refused]
    assert len(refused) == (said is not None), refused
    if said is not None:
        assert said in refused[0]
        assert main(["check-import", str(model)]) == 2
        assert f"refused: {refused[0]}" in capsys.readouterr().out


def test_a_folder_without_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()
    assert "there are no .safetensors" in next(check_import(model, "us-east-1")).message


def test_regions(model: Path) -> None:
    assert [f.refused for f in check_import(model, "ap-south-1")] == [True]
    config(model_type="gpt_oss")(model)
    messages = [f.message for f in check_import(model, "us-west-2")]
    assert "gpt_oss is imported in us-east-1 only" in messages


def test_notes_say_what_bedrock_changes(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rope = {"rope_type": "llama3", "factor": 32.0, "high_freq_factor": 4.0}
    rope |= {"low_freq_factor": 1.0, "original_max_position_embeddings": 8192}
    config(rope_scaling=rope, max_position_embeddings=131072)(model)
    tokenizer(chat_template=None)(model)
    assert main(["check-import", str(model)]) == 0
    said = capsys.readouterr().out
    assert "Bedrock replaces factor of the positions, 32.0, with 8" in said
    assert "asks for less than 128K" in said
    assert "it has no chat template" in said and "InvokeModel takes its requests" in said
