"""Input and output embeddings that share one tensor, and adapters that change only one of them."""

from __future__ import annotations

from typing import Any

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import (
    AuxiliaryTrainingWrapper,
    ModulesToSaveWrapper,
    TrainableTokensWrapper,
)
from torch import nn
from transformers import PreTrainedModel


def untie_adapted_embeddings(tuned: PeftModel) -> bool:
    """Give the output embedding a tensor of its own if the adapter is on an end of the tie.

    An update that is merged into a shared tensor changes both ends, although the adapter was
    trained on one. Trained tokens (`trainable_token_indices`) stay tied: PEFT trains one set of
    rows for both ends.

    Args:
        tuned: The base with its adapter, not yet merged.

    Returns:
        Whether the embeddings were untied.
    """
    model: PreTrainedModel = tuned.get_base_model()
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    if any(end is None for end in ends):
        return False
    source, head = (_base_module(end) for end in ends)
    if source.weight is not head.weight:
        return False
    wrapped = (BaseTunerLayer, ModulesToSaveWrapper, TrainableTokensWrapper)
    adapted = any(isinstance(end, wrapped) for end in ends)
    if not adapted or all(isinstance(end, TrainableTokensWrapper) for end in ends):
        return False
    head.weight = nn.Parameter(source.weight.detach().clone(), requires_grad=False)
    for config in {id(c): c for c in (model.config, model.config.get_text_config())}.values():
        config.tie_word_embeddings = False
    # Transformers ties these again, and leaves them out of a saved file.
    model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)
    return True


def _base_module(module: Any) -> Any:
    """Return the module that PEFT wrapped."""
    while isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
        wrapper = isinstance(module, AuxiliaryTrainingWrapper)
        module = module.original_module if wrapper else module.get_base_layer()
    return module
