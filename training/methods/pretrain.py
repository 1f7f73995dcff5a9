"""Pre-training: predict every next token, from random weights or continued from trained ones."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from training.engine.setup import Setup
from training.methods.anchored import build_anchored
from training.methods.causal import CausalTrainer


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: Setup,
) -> CausalTrainer:
    """Return the trainer; every token of `rows` is supervised."""
    return build_anchored(model, tokenizer, rows, arguments, setup)
