"""QLoRA: LoRA on a base model loaded in 4 bits (Dettmers et al. 2023, arXiv:2305.14314)."""

from __future__ import annotations

from peft import PeftModel, prepare_model_for_kbit_training
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.adapters import lora
from training.config.adapters import Qlora


def apply(
    model: PreTrainedModel,
    adapter: Qlora,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> PeftModel:
    """Return the 4-bit `model` with a fresh adapter and its norms in fp32.

    Args:
        model: The base model, loaded in 4 bits.
        adapter: The job's section.
        tokenizer: Not used.
        max_length: Not used.

    Raises:
        ModelError: The job names a module that the model does not have.
    """
    # The trainer enables gradient checkpointing for every kind of adapter.
    prepared = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return lora.apply(prepared, adapter, tokenizer=tokenizer, max_length=max_length)
