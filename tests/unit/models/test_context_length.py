"""Rows longer than the model's context are refused or named, by the positions of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from tests.run_commands import changed, train_here
from training.errors import ModelError
from training.models.context_length import context_length


def learned_positions(kind: str, tokenizer: Path, folder: Path) -> Path:
    """Save a model with 64 learned positions."""
    shape = {
        "gpt2": {"n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2},
        "opt": {
            "max_position_embeddings": 64,
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "ffn_dim": 32,
            "word_embed_proj_dim": 16,
        },
    }[kind]
    words = AutoTokenizer.from_pretrained(tokenizer)
    config = AutoConfig.for_model(kind, vocab_size=len(words), **shape)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["gpt2", "opt"])
def test_learned_positions(
    document: dict[str, Any], tiny_model: Path, tmp_path: Path, kind: str
) -> None:
    base = learned_positions(kind, tiny_model, tmp_path / "base")
    job = changed(document, model={"source": str(base)}, train={"max_steps": 1})
    with pytest.raises(ModelError, match=r"max_length is 96, .* for 64 tokens"):
        train_here(job, tmp_path / "long")
    train_here(changed(job, data={"max_length": 64}), tmp_path / "fits")


def test_rotary_positions(
    document: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = changed(document, train={"max_steps": 1, "micro_batch_size": 1})
    train_here(changed(job, data={"max_length": 300}), tmp_path / "long")
    assert "max_length is 300" in caplog.text
    assert "256 tokens" in caplog.text
    caplog.clear()
    train_here(changed(job, data={"max_length": 256}), tmp_path / "fits")
    assert "max_position_embeddings" not in caplog.text


def test_a_scaled_context(tiny_model: Path) -> None:
    config = AutoConfig.from_pretrained(tiny_model)
    config.rope_parameters = {
        "rope_type": "yarn",
        "factor": 4.0,
        "rope_theta": 10_000.0,
        "original_max_position_embeddings": 256,
    }
    assert context_length(AutoModelForCausalLM.from_config(config)) == 1024
