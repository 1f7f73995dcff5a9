"""IA3: a learned factor for each channel of keys, values and the MLP (arXiv:2205.05638)."""

from __future__ import annotations

from typing import Any

import torch
from peft import IA3Config, PeftModel, get_peft_model
from peft.tuners.ia3 import IA3Layer
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.adapters.target_modules import module_options
from training.config.adapters import Ia3


def apply(
    model: PreTrainedModel,
    adapter: Ia3,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> PeftModel:
    """Return `model` with factors of one and everything else frozen.

    Args:
        model: The base model.
        adapter: The job's section.
        tokenizer: Not used.
        max_length: Not used.

    Raises:
        ModelError: The job names a module that the model does not have.
    """
    config = IA3Config(
        **module_options(model, adapter),
        feedforward_modules=list(adapter.feedforward_modules),
    )
    tuned = get_peft_model(model, config)
    for module in tuned.modules():
        if isinstance(module, IA3Layer):
            module.register_forward_hook(_restore_dtype)
    return tuned


def _restore_dtype(
    module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor
) -> torch.Tensor:
    """Return a layer's output in the dtype of its input.

    PEFT computes the factors of a 4-bit layer in fp32 and returns fp32. Attention then fails: its
    keys and values are in fp32, while the queries, which have no factors, are in bf16.
    """
    return output.to(inputs[0].dtype)
