"""IA3: a learned factor for each channel of keys, values and the MLP (arXiv:2205.05638)."""

from __future__ import annotations

from typing import Any

import torch
from peft import IA3Config, PeftModel, get_peft_model
from peft.tuners.ia3 import IA3Layer
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.adapters.target_modules import check_targets
from training.config.adapters import Ia3
from training.models.heads import task_of


def apply(
    model: PreTrainedModel,
    adapter: Ia3,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> PeftModel:
    """Return `model` with factors of one, which change nothing yet; everything else is frozen.

    Raises:
        ModelError: A target names no module of this model.
    """
    check_targets(model, adapter)
    config = IA3Config(
        task_type=task_of(model),
        target_modules=list(adapter.target_modules),
        feedforward_modules=list(adapter.feedforward_modules),
        modules_to_save=list(adapter.modules_to_save) or None,
    )
    tuned = get_peft_model(model, config)
    for module in tuned.modules():
        if isinstance(module, IA3Layer):
            module.register_forward_hook(_as_given)
    return tuned


def _as_given(module: nn.Module, given: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
    """Return what a layer puts out in the dtype it was given.

    PEFT computes factors of a 4-bit layer in fp32 and leaves it so; beside queries in bf16, which
    have no factors, attention then refuses the keys.
    """
    return output.to(given[0].dtype)
