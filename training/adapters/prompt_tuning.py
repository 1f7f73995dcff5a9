"""Prompt tuning: trained vectors before a row (Lester et al. 2021, arXiv:2104.08691)."""

from __future__ import annotations

import torch
from peft import PromptTuningConfig
from peft.utils.integrations import gather_params_ctx
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.adapters.prompt_init import starting_ids
from training.adapters.soft_prompts import SoftPromptModel, soft_prompted
from training.config.adapters import PromptTuning


def apply(
    model: PreTrainedModel,
    adapter: PromptTuning,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> SoftPromptModel:
    """Return `model` with trainable virtual tokens before its input.

    Raises:
        ModelError: The context has no room for them, or `init_text` no token.
    """
    config = PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=adapter.num_virtual_tokens,
        prompt_tuning_init="RANDOM",
    )
    tuned = soft_prompted(model, config, max_length)
    if adapter.init != "random":
        ids = starting_ids(tokenizer, adapter.init_text, adapter.num_virtual_tokens)
        words = model.get_input_embeddings()
        with torch.no_grad(), gather_params_ctx(words.parameters()):
            start = words(ids.to(words.weight.device)).float()
        tuned.prompt_encoder["default"].embedding.weight.data.copy_(start)
    return tuned
