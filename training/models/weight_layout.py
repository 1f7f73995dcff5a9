"""Names of a model's tensors in memory and in its saved files, where Transformers converts them.

A mixture of experts is saved with one tensor per expert and projection, as its authors published
it, and holds one tensor for all experts of a layer in memory; other models are renamed only.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    PrefixChange,
    WeightConverter,
    WeightRenaming,
    rename_source_key,
)


def group_name(model: nn.Module) -> Callable[[str], str]:
    """Return a function from the name of a tensor to that of its group.

    A group holds the same elements in memory and in the saved files, in one tensor or several. The
    function takes names of either place.

    Args:
        model: Model in memory.
    """
    if not isinstance(model, PreTrainedModel):
        return lambda name: name
    loading = _conversions(model)
    if not loading:
        return lambda name: name
    saving = [conversion.reverse_transform() for conversion in reversed(loading)]
    into_memory, onto_disk = _split(loading), _split(saving)
    in_memory = {name for name, _ in model.named_parameters()}

    def group(name: str) -> str:
        if name not in in_memory:
            name, _ = rename_source_key(name, *into_memory)
        renamed: str
        renamed, _ = rename_source_key(name, *onto_disk, reverse=True)
        return renamed

    return group


def _conversions(model: PreTrainedModel) -> list[Any]:
    """Return what Transformers reverts when it saves `model`, in the order of loading."""
    own = getattr(model, "_weight_conversions", None)
    if own is None:
        found = get_model_conversion_mapping(model, add_legacy=False)
        own = [c for c in found if not isinstance(c, PrefixChange)]
    # Copied, because a conversion remembers that it was used.
    return deepcopy(list(own))


def _split(conversions: list[Any]) -> tuple[list[Any], list[Any]]:
    renamings = [c for c in conversions if isinstance(c, WeightRenaming)]
    return renamings, [c for c in conversions if isinstance(c, WeightConverter)]
