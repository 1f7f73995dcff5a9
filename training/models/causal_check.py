"""Check that a model predicts each token from those before it."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from training.errors import ModelError


def check_causal(source: str, revision: str | None, *, trust_remote_code: bool) -> None:
    """Raise for an encoder or an encoder-decoder model.

    Transformers loads BERT and its relatives as language models whose attention sees the tokens to
    be predicted: the loss falls to nearly 0, and nothing is learned.

    Args:
        source: Folder or Hub id of the model.
        revision: Revision of the Hub repository.
        trust_remote_code: Whether the model's own code may run.

    Raises:
        ModelError: The model is not a decoder.
    """
    try:
        config: Any = AutoConfig.from_pretrained(
            source, revision=revision, trust_remote_code=trust_remote_code
        )
    except Exception:
        return  # loading the model fails with the same reason, and explains it
    kind = config.model_type
    # XLM calls its setting `causal`; all others follow `is_decoder`.
    if getattr(config, "is_decoder", False) or getattr(config, "causal", False):
        return
    if getattr(config, "is_encoder_decoder", False):
        what = "an encoder-decoder model"
    elif kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        what = "an encoder, trained by masked language modeling"
    else:
        return
    raise ModelError(
        f"{source} is {what} (model_type {kind}). Every method here trains decoders, which predict "
        "each token from those before it. Name a decoder, such as Llama, Qwen, Gemma or Mistral; "
        "encoders are trained with Transformers' own example run_mlm.py"
    )
