"""P-tuning: a small network makes the vectors before a row (Liu et al. 2021, arXiv:2103.10385)."""

from __future__ import annotations

from peft import PromptEncoderConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.adapters.soft_prompts import SoftPromptModel, soft_prompted
from training.config.adapters import PTuning


def apply(
    model: PreTrainedModel,
    adapter: PTuning,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> SoftPromptModel:
    """Return `model` with virtual tokens before its input and a trainable encoder behind them.

    Raises:
        ModelError: The context has no room for them.
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
    return soft_prompted(model, config, max_length)
