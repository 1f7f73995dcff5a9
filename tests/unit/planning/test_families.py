"""Shapes that a `config.json` describes, held against what the models' cards say they weigh."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from planning.hf_config import NamedShape, shape_of
from planning.memory.parameters import MemoryConfig
from planning.memory.simulate_step import simulate
from planning.model_shape import ModelShape
from tests.unit.planning.test_memory import PLAIN
from training.errors import JobError

NAMED = NamedShape("somewhere", None, "test")

QWEN3_30B_A3B = {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "vocab_size": 151936,
}
MIXTRAL_8X7B = {
    "model_type": "mixtral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "vocab_size": 32000,
}
GPT2 = {
    "model_type": "gpt2",
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
}
PYTHIA_410M = {
    "model_type": "gpt_neox",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "vocab_size": 50304,
}


@pytest.mark.parametrize(
    ("config", "billions"),
    [(QWEN3_30B_A3B, 30.53), (MIXTRAL_8X7B, 46.70), (GPT2, 0.1244), (PYTHIA_410M, 0.4053)],
    ids=["Qwen3-30B-A3B", "Mixtral-8x7B", "GPT-2", "Pythia-410M"],
)
def test_as_many_weights_as_the_card_says(config: dict[str, Any], billions: float) -> None:
    assert shape_of(config, NAMED).parameters == pytest.approx(billions * 1e9, rel=0.02)


def test_every_expert_rests_learns_and_is_named() -> None:
    shape = shape_of({**MIXTRAL_8X7B, "num_hidden_layers": 2}, NAMED)
    assert any("8 experts, 2 at a time" in note for note in shape.notes)
    at_start = simulate(_plain(shape))["start"]
    assert at_start["weights"] == pytest.approx(4 * shape.parameters)
    assert at_start["optimizer"] == pytest.approx(8 * shape.parameters)
    assert simulate(_plain(shape))["optimizer"]["gradients"] == pytest.approx(4 * shape.parameters)


def test_a_token_pays_for_its_experts_alone() -> None:
    shape = shape_of(QWEN3_30B_A3B, NAMED)
    assert shape.active == pytest.approx(3.0e9, rel=0.1)


def test_an_unknown_family_is_reported() -> None:
    assert "not a family the plan knows" in shape_of(GPT2, NAMED).notes[0]
    with pytest.raises(JobError, match="hidden_size"):
        shape_of({"model_type": "whisper"}, NAMED)


def _plain(shape: ModelShape) -> MemoryConfig:
    return replace(PLAIN, shape=shape, rows=1, length=16)
