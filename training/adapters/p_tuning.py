"""P-tuning: embeddings before each row from a trained network (Liu et al., arXiv:2103.10385)."""

from __future__ import annotations

from peft import PromptEncoderConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.adapters.soft_prompts import SoftPromptModel, add_soft_prompt
from training.config.adapters import PTuning


def apply(
    model: PreTrainedModel,
    adapter: PTuning,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> SoftPromptModel:
    """Return `model` with virtual tokens before its input, made by a trainable encoder.

    Args:
        model: The base model.
        adapter: The job's section.
        tokenizer: Not used.
        max_length: Number of tokens of the longest row.

    Raises:
        ModelError: The virtual tokens exceed the context.
    """
    layers = {"encoder_num_layers": adapter.encoder_num_layers} if adapter.encoder == "lstm" else {}
    config = PromptEncoderConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=adapter.num_virtual_tokens,
        encoder_reparameterization_type=adapter.encoder.upper(),
        encoder_hidden_size=adapter.encoder_hidden_size,
        encoder_dropout=adapter.encoder_dropout,
        **layers,
    )
    return add_soft_prompt(model, config, max_length)
