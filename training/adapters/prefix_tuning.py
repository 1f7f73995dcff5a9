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

from training.adapters.prompt_init import starting_ids
from training.adapters.soft_prompts import SoftPromptModel, soft_prompted
from training.config.adapters import PrefixTuning


def apply(
    model: PreTrainedModel,
    adapter: PrefixTuning,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> SoftPromptModel:
    """Return `model` with a trainable prefix in every layer.

    Raises:
        ModelError: The context has no room for it, or `init_text` no token.
    """
    config = PrefixTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=adapter.num_virtual_tokens,
        prefix_projection=adapter.projection,
        encoder_hidden_size=adapter.encoder_hidden_size,
    )
    tuned = soft_prompted(model, config, max_length)
    if not adapter.projection and adapter.init != "random":
        ids = starting_ids(tokenizer, adapter.init_text, adapter.num_virtual_tokens)
        with torch.no_grad(), _whole_when_called(model):
            # What real words leave behind in each layer is where a prefix does least harm.
            cache = model(input_ids=ids[None].to(model.device), use_cache=True).past_key_values
        initialize_kv_prefix_from_past_key_values(tuned, past_key_values=cache)
    return tuned


@contextmanager
def _whole_when_called(model: nn.Module) -> Iterator[None]:
    """Let each module have its own weights whole while it is called.

    Loaded for ZeRO 3 they are cut up, and nobody puts them together before the engine is made.
    """
    gathered: dict[nn.Module, ExitStack] = {}

    def before(module: nn.Module, _: Any) -> None:
        gathered[module] = ExitStack()
        own = list(module.parameters(recurse=False))
        gathered[module].enter_context(gather_params_ctx(own, modifier_rank=None))

    def after(module: nn.Module, *_: Any) -> None:
        gathered.pop(module).close()

    with ExitStack() as hooks:
        for module in model.modules():
            if list(module.parameters(recurse=False)):
                for hook in (
                    module.register_forward_pre_hook(before),
                    module.register_forward_hook(after),
                ):
                    hooks.callback(hook.remove)
        yield
