"""IA3: a learned factor for each channel of keys, values and the MLP (arXiv:2205.05638)."""

from __future__ import annotations

from peft import IA3Config, PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.adapters.targets import check_targets
from training.config.adapters import Ia3
from training.models.heads import task_of


def apply(
    model: PreTrainedModel,
    adapter: Ia3,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> PeftModel:
    """Return `model` with factors of one, which change nothing yet; everything else is frozen.

    Raises:
        ModelError: A target names no module of this model.
    """
    check_targets(model, adapter.target_modules, "adapter.target_modules")
    check_targets(model, adapter.modules_to_save, "adapter.modules_to_save")
    config = IA3Config(
        task_type=task_of(model),
        target_modules=list(adapter.target_modules),
        feedforward_modules=list(adapter.feedforward_modules),
        modules_to_save=list(adapter.modules_to_save) or None,
    )
    return get_peft_model(model, config)
