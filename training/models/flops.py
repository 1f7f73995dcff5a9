"""FLOPs of a training step, to compute model FLOPs utilization (MFU)."""

from __future__ import annotations

import platform
import re
from typing import Any

import torch

_LAYER = re.compile(r"\.(?:layers|h|blocks|layer)\.(\d+)\.")
_ABOVE_LAYERS = re.compile(r"(?:^|\.)(?:lm_head|score|norm|final_layer_norm|ln_f)\.")


def flops_per_token(model: Any, length: int) -> float:
    """Return the FLOPs of one token, forward and backward.

    Six per parameter (two forward, four backward), four if the parameter is frozen and only
    propagates the gradient, or two if it is below all trained parameters, where no gradient is
    needed; attention adds 12 x layers x width x length, halved for being causal (Chowdhery et al.
    2022, arXiv:2204.02311, appendix B).

    Args:
        model: Model with its adapter; embedding look-ups cost nothing.
        length: Tokens that a token may attend to. Of a mixture of experts, the experts that a token
            is sent to count.
    """
    config = model.config.get_text_config()
    embeddings = model.get_input_embeddings()
    looked_up = set() if config.tie_word_embeddings else set(embeddings.parameters())
    lowest = lowest_trained_layer(model)
    trained = frozen = below = 0
    used = _share_of_experts(model)
    for name, parameter in model.named_parameters():
        if parameter in looked_up:
            continue
        count = int(getattr(parameter, "ds_numel", parameter.numel()) * used.get(name, 1.0))
        state = getattr(parameter, "quant_state", None)
        count = int(state.shape.numel()) if state is not None else count
        if parameter.requires_grad:
            trained += count
        elif (match := _LAYER.search(name)) and int(match[1]) < lowest:
            below += count
        else:
            frozen += count
    layers = config.num_hidden_layers - 2 / 3 * lowest
    attention = 6.0 * layers * config.hidden_size * length
    return 6.0 * trained + 4.0 * frozen + 2.0 * below + attention


def _share_of_experts(model: Any) -> dict[str, float]:
    """Return the share of the parameters of a layer's experts that one token is multiplied with."""
    config = model.config.get_text_config()
    per_token = getattr(config, "num_experts_per_tok", None)
    return {
        f"{name}.{inner}": per_token / module.num_experts
        for name, module in model.named_modules()
        # PEFT's wrapper of an adapted parameter has the number of experts too.
        if per_token and hasattr(module, "num_experts") and name.rpartition(".")[2] == "experts"
        for inner, _ in module.named_parameters()
    }


def lowest_trained_layer(model: Any) -> int:
    """Return the index of the lowest layer that a gradient must reach.

    It is 0 if anything in front of the layers is trained, such as the embeddings.
    """
    lowest = int(model.config.get_text_config().num_hidden_layers)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if match := _LAYER.search(name):
            lowest = min(lowest, int(match[1]))
        elif not _ABOVE_LAYERS.search(name):
            return 0
    return lowest


def device_name() -> str:
    """Return the accelerator's name as its driver reports it, or the processor's."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return platform.processor() or platform.machine()
