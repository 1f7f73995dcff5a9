"""LoRA (Hu et al. 2021, arXiv:2106.09685) with its rank-stabilised and weight-decomposed forms."""

from __future__ import annotations

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.adapters.targets import check_targets
from training.config.adapters import Lora
from training.models.heads import task_of


def apply(
    model: PreTrainedModel,
    adapter: Lora,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> PeftModel:
    """Return `model` with a fresh adapter, everything else frozen.

    Raises:
        ModelError: A target names no module of this model.
    """
    check_targets(model, adapter.target_modules, "adapter.target_modules")
    check_targets(model, adapter.modules_to_save, "adapter.modules_to_save")
    targets = adapter.target_modules
    config = LoraConfig(
        task_type=task_of(model),
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        bias=adapter.bias,
        fan_in_fan_out=adapter.fan_in_fan_out,
        use_rslora=adapter.use_rslora,
        use_dora=adapter.use_dora,
        modules_to_save=list(adapter.modules_to_save) or None,
    )
    return get_peft_model(model, config)
