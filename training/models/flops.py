"""FLOPs of a training step, to compute model FLOPs utilization (MFU)."""

from __future__ import annotations

import platform
from typing import Any

import torch


def flops_per_token(model: Any, length: int) -> float:
    """Return the FLOPs of one token, forward and backward.

    Six per parameter (two forward, four backward), or four if the parameter is frozen and only
    propagates the gradient; attention adds 12 x layers x width x length, halved for being causal
    (Chowdhery et al. 2022, arXiv:2204.02311, appendix B).

    Args:
        model: Model with its adapter; embedding look-ups cost nothing.
        length: Tokens that a token may attend to.
    """
    config = model.config.get_text_config()
    embeddings = model.get_input_embeddings()
    looked_up = set() if config.tie_word_embeddings else set(embeddings.parameters())
    trained = frozen = 0
    for parameter in model.parameters():
        if parameter in looked_up:
            continue
        count = int(getattr(parameter, "ds_numel", parameter.numel()))
        state = getattr(parameter, "quant_state", None)
        count = int(state.shape.numel()) if state is not None else count
        if parameter.requires_grad:
            trained += count
        else:
            frozen += count
    attention = 6.0 * config.num_hidden_layers * config.hidden_size * length
    return 6.0 * trained + 4.0 * frozen + attention


def device_name() -> str:
    """Return the accelerator's name as its driver reports it, or the processor's."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return platform.processor() or platform.machine()
