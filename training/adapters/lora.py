"""LoRA (Hu et al. 2021, arXiv:2106.09685), with rsLoRA, DoRA and PiSSA as options."""

from __future__ import annotations

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.adapters.pissa import init_principal_components
from training.adapters.target_modules import module_options
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
        ModelError: The job names a module that the model does not have.
    """
    # PiSSA stores twice the rank (see pissa.py). PEFT scales by the stored rank, so alpha grows
    # with it: the scale stays that of the rank in the job.
    growth = adapter.kept_rank / adapter.r
    config = LoraConfig(
        **module_options(model, adapter),
        r=adapter.kept_rank,
        lora_alpha=adapter.alpha * (growth**0.5 if adapter.use_rslora else growth),
        lora_dropout=adapter.dropout,
        bias=adapter.bias,
        fan_in_fan_out=adapter.fan_in_fan_out,
        use_rslora=adapter.use_rslora,
        use_dora=adapter.use_dora,
    )
    tuned = get_peft_model(model, config)
    if adapter.init == "pissa":
        init_principal_components(tuned, adapter.r)
    return tuned
