"""Prefix tuning: trained keys and values in every layer (Li and Liang 2021, arXiv:2101.00190)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from peft import PrefixTuningConfig
from peft.tuners.cartridge.utils import initialize_kv_prefix_from_past_key_values
from peft.utils.integrations import gather_params_ctx
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.adapters.prompt_init import initial_token_ids
from training.adapters.soft_prompts import SoftPromptModel, add_soft_prompt
from training.config.adapters import PrefixTuning


def apply(
    model: PreTrainedModel,
    adapter: PrefixTuning,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> SoftPromptModel:
    """Return `model` with a trainable prefix in every layer.

    Args:
        model: The base model.
        adapter: The job's section.
        tokenizer: The model's tokenizer, for the initial tokens.
        max_length: Number of tokens of the longest row.

    Raises:
        ModelError: The prefix exceeds the context, or `init_text` has no token.
    """
    config = PrefixTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=adapter.num_virtual_tokens,
        prefix_projection=adapter.projection,
        encoder_hidden_size=adapter.encoder_hidden_size,
    )
    tuned = add_soft_prompt(model, config, max_length)
    if not adapter.projection and adapter.init != "random":
        ids = initial_token_ids(tokenizer, adapter.init_text, adapter.num_virtual_tokens)
        # The keys and values of real tokens change the model's output least.
        with torch.no_grad(), _gather_on_call(model):
            cache = model(input_ids=ids[None].to(model.device), use_cache=True).past_key_values
        initialize_kv_prefix_from_past_key_values(tuned, past_key_values=cache)
    return tuned


@contextmanager
def _gather_on_call(model: nn.Module) -> Iterator[None]:
    """Gather each module's own parameters while it is called.

    A model loaded for ZeRO 3 is already sharded, but only the DeepSpeed engine installs the hooks
    that gather its parameters, and the engine is created later.
    """
    gathered: dict[nn.Module, ExitStack] = {}

    def gather(module: nn.Module, _: Any) -> None:
        gathered[module] = ExitStack()
        own = list(module.parameters(recurse=False))
        gathered[module].enter_context(gather_params_ctx(own, modifier_rank=None))

    def release(module: nn.Module, *_: Any) -> None:
        gathered.pop(module).close()

    with ExitStack() as hooks:
        for module in model.modules():
            if list(module.parameters(recurse=False)):
                for hook in (
                    module.register_forward_pre_hook(gather),
                    module.register_forward_hook(release),
                ):
                    hooks.callback(hook.remove)
        yield
