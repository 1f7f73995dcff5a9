"""QLoRA: LoRA on a base that was loaded in 4 bits (Dettmers et al. 2023, arXiv:2305.14314)."""

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
    """Return the 4-bit `model` with a fresh adapter, norms in fp32.

    Raises:
        ModelError: A target names no module of this model.
    """
    # Checkpointing of activations is the trainer's to switch on, as for every other adapter.
    prepared = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return lora.apply(prepared, adapter, tokenizer=tokenizer, max_length=max_length)
