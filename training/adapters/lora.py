"""LoRA (Hu et al. 2021, arXiv:2106.09685) with its rank-stabilised and weight-decomposed forms."""

from __future__ import annotations

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.adapters.pissa import start_from_principal_components
from training.adapters.target_modules import check_targets
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
    check_targets(model, adapter)
    targets = adapter.target_modules
    doubled = adapter.kept_rank / adapter.r
    config = LoraConfig(
        task_type=task_of(model),
        r=adapter.kept_rank,
        # So that PEFT's scale, of the rank that is kept, is that of the rank that learns.
        lora_alpha=adapter.alpha * (doubled**0.5 if adapter.use_rslora else doubled),
        lora_dropout=adapter.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        bias=adapter.bias,
        fan_in_fan_out=adapter.fan_in_fan_out,
        use_rslora=adapter.use_rslora,
        use_dora=adapter.use_dora,
        modules_to_save=list(adapter.modules_to_save) or None,
    )
    tuned = get_peft_model(model, config)
    if adapter.init == "pissa":
        start_from_principal_components(tuned, adapter.r)
    return tuned
