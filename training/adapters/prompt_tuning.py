"""Prompt tuning: trained embeddings before each row (Lester et al. 2021, arXiv:2104.08691)."""

from __future__ import annotations

import torch
from peft import PromptTuningConfig
from peft.utils.integrations import gather_params_ctx
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.adapters.prompt_init import initial_token_ids
from training.adapters.soft_prompts import SoftPromptModel, add_soft_prompt
from training.config.adapters import PromptTuning


def apply(
    model: PreTrainedModel,
    adapter: PromptTuning,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> SoftPromptModel:
    """Return `model` with trainable virtual tokens before its input.

    Args:
        model: The base model.
        adapter: The job's section.
        tokenizer: The model's tokenizer, for the initial tokens.
        max_length: Number of tokens of the longest row.

    Raises:
        ModelError: The virtual tokens exceed the context, or `init_text` has no token.
    """
    config = PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=adapter.num_virtual_tokens,
        prompt_tuning_init="RANDOM",
    )
    tuned = add_soft_prompt(model, config, max_length)
    if adapter.init != "random":
        ids = initial_token_ids(tokenizer, adapter.init_text, adapter.num_virtual_tokens)
        embeddings = model.get_input_embeddings()
        # Under ZeRO 3 the embeddings are sharded until they are gathered.
        with torch.no_grad(), gather_params_ctx(embeddings.parameters()):
            initial = embeddings(ids.to(embeddings.weight.device)).float()
        tuned.prompt_encoder["default"].embedding.weight.data.copy_(initial)
    return tuned
