"""Tiny mixtures of experts with random weights, one of each family that is tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.factories import make_tiny_model

EXPERTS = 4
FAMILIES: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": EXPERTS, "num_experts_per_tok": 2},
    "qwen3_moe": {
        "num_experts": EXPERTS,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 40,
        "norm_topk_prob": True,
    },
    "gpt_oss": {
        "num_local_experts": EXPERTS,
        "num_experts_per_tok": 2,
        "intermediate_size": 40,
        "sliding_window": 128,
    },
    "granitemoe": {
        "num_local_experts": EXPERTS,
        "num_experts_per_tok": 2,
        "intermediate_size": 40,
    },
    "deepseek_v3": {
        "n_routed_experts": EXPERTS,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "moe_intermediate_size": 40,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
        "num_key_value_heads": 4,
        "num_hidden_layers": 3,
    },
}
"""Shape of each family, by its model type in Transformers."""
BALANCED = [family for family in FAMILIES if family != "deepseek_v3"]
"""Families with a load-balancing loss."""


def make_tiny_moe(folder: Path, family: str = "mixtral", **shape: Any) -> Path:
    """Save a mixture of experts with random weights and a tokenizer in `folder`."""
    balance = {"router_aux_loss_coef": 0.5} if family in BALANCED else {}
    return make_tiny_model(folder, family, **{**FAMILIES[family], **balance, **shape})
