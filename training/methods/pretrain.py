"""Pre-training: predict every next token, from random weights or continued from trained ones."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from training.methods.common.causal_lm import CausalLmTrainer
from training.methods.common.regularized import build_regularized
from training.trainer.context import TrainerContext


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
) -> CausalLmTrainer:
    """Return the trainer; every token of `rows` is supervised."""
    return build_regularized(model, tokenizer, rows, arguments, setup)
