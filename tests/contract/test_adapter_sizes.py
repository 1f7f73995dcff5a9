"""An adapter trains as many parameters as the plan of its job says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.parity.test_soft_prompts import fresh
from training.config.adapter_base import Widths
from training.config.load import parse_job

ADAPTERS: list[dict[str, Any]] = [
    {"kind": "lora", "r": 4},
    {"kind": "lora", "r": 4, "use_dora": True},
    {"kind": "lora", "r": 4, "init": "pissa"},
    {"kind": "lora", "r": 4, "init": "olora"},
    {"kind": "lora", "r": 4, "layers_to_transform": 1},
    {"kind": "lora", "r": 4, "target_modules": ["q_proj", "v_proj"]},
    {"kind": "adalora"},
    {"kind": "adalora", "layers_to_transform": [0]},
    {"kind": "prompt_tuning", "num_virtual_tokens": 7},
    {"kind": "p_tuning", "num_virtual_tokens": 7, "encoder_hidden_size": 24},
    {"kind": "p_tuning", "encoder": "lstm", "encoder_num_layers": 3},
    {"kind": "prefix_tuning", "num_virtual_tokens": 7},
    {"kind": "prefix_tuning", "projection": True, "encoder_hidden_size": 24},
    {"kind": "ia3"},
    {"kind": "ia3", "target_modules": ["q_proj", "up_proj"], "feedforward_modules": []},
    {"kind": "bottleneck", "reduction_factor": 4},
    {"kind": "bottleneck", "size": 5, "after": ["mlp"]},
]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=str)
def test_size_is_known_before(document: dict[str, Any], adapter: dict[str, Any]) -> None:
    base, tuned = fresh(document, adapter)
    config = base.config
    widths = Widths(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        queries=config.num_attention_heads * config.head_dim,
        keys=config.num_key_value_heads * config.head_dim,
        intermediate=config.intermediate_size,
    )
    declared = parse_job({**document, "adapter": adapter}, "test").adapter
    trained = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    assert declared.num_trained(widths) == trained
