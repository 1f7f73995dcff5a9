"""LoRA (Hu et al. 2021, arXiv:2106.09685), with rsLoRA, DoRA and its starts as options."""

from __future__ import annotations

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.adapters.decomposed_init import init_from_weights
from training.adapters.expert_parameters import (
    check_expert_init,
    explain_unsupported_experts,
    target_parameters,
)
from training.adapters.random_init import init_at_random
from training.adapters.target_modules import module_options
from training.adapters.trained_tokens import trained_tokens
from training.config.adapters import Lora


def apply(
    model: PreTrainedModel,
    adapter: Lora,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> PeftModel:
    """Return `model` with a fresh adapter and everything else frozen.

    Args:
        model: The base model.
        adapter: The job's section.
        tokenizer: Not used.
        max_length: Not used.

    Raises:
        ModelError: The job names a module or parameter that the model does not have, asks for what
            LoRA on experts cannot do, or adapts an embedding whose added tokens are trained.
    """
    # PiSSA and OLoRA store twice the rank (see decomposed_init.py). PEFT scales by the stored rank,
    # so alpha grows with it: the scale stays that of the rank in the job.
    growth = adapter.kept_rank / adapter.r
    config = LoraConfig(
        **module_options(model, adapter),
        **trained_tokens(model, adapter),
        r=adapter.kept_rank,
        lora_alpha=adapter.alpha * (growth**0.5 if adapter.use_rslora else growth),
        lora_dropout=adapter.dropout,
        bias=adapter.bias,
        fan_in_fan_out=adapter.fan_in_fan_out,
        use_rslora=adapter.use_rslora,
        use_dora=adapter.use_dora,
        init_lora_weights="gaussian" if adapter.init == "gaussian" else True,
        target_parameters=target_parameters(model, adapter.target_parameters),
    )
    with explain_unsupported_experts():
        tuned = get_peft_model(model, config)
    check_expert_init(tuned, adapter.init)
    if adapter.init == "pissa" or adapter.init == "olora":
        init_from_weights(tuned, adapter.r, adapter.init)
    elif adapter.init in ("orthogonal", "xavier_uniform"):
        init_at_random(tuned, adapter.init)
    return tuned
