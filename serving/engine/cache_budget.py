"""Number of tokens that the cache may hold, from the memory that is free after loading."""

from __future__ import annotations

from typing import Any

import psutil
import torch

_SHARE = 0.25
"""Share of the free memory: growing the cache copies it, and a step needs memory of its own."""


def cache_tokens(model: Any) -> int:
    """Return the number of tokens that the cache of a model may hold.

    Args:
        model: Causal language model, on its device.
    """
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    element = torch.empty((), dtype=model.dtype).element_size()
    of_token = 2 * config.num_hidden_layers * heads * size * element
    return max(1, int(_SHARE * _free_bytes(model.device) / of_token))


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
