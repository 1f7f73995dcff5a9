"""Boundaries of packed documents for flash attention, in micro-batches of any size.

Without a mask, Transformers gives flash attention the boundaries that restarting position ids mark
only if the batch has a single row (`_is_packed_sequence` in `modeling_flash_attention_utils.py`).
In a batch of several rows every document would attend to those before it in its row. The
boundaries of the flattened batch are therefore passed as arguments, which Transformers uses for any
batch size, and computed once per forward pass instead of once per layer.
"""

from __future__ import annotations

import inspect
from typing import Any

from transformers import PreTrainedModel
from transformers.modeling_flash_attention_utils import prepare_fa_kwargs_from_position_ids

from training.errors import ModelError


def pass_document_boundaries(model: PreTrainedModel) -> None:
    """Let flash attention separate the documents of packed rows; call it before an adapter.

    Raises:
        ModelError: The model's forward takes no arguments of flash attention.
    """
    body = model.base_model
    parameters = inspect.signature(type(body).forward).parameters.values()
    if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        raise ModelError(
            f"data.packing with model.attention: flash_attention_2 needs a model that takes the "
            f"boundaries of documents, which {type(body).__name__} does not. Use "
            f"model.attention: sdpa, or leave data.packing out"
        )
    body.register_forward_pre_hook(_add_boundaries, with_kwargs=True)


def _add_boundaries(
    module: Any, args: tuple[Any, ...], inputs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Add the boundaries that position ids mark, unless a mask or a cache separates the rows."""
    positions = inputs.get("position_ids")
    if positions is None or positions.dim() != 2 or positions.shape[1] == 1:
        return None
    if inputs.get("attention_mask") is not None or inputs.get("past_key_values") is not None:
        return None
    (queries, keys), (longest, _) = prepare_fa_kwargs_from_position_ids(positions)
    boundaries = {"cu_seq_lens_q": queries, "cu_seq_lens_k": keys}
    lengths = dict.fromkeys(("max_length_q", "max_length_k"), int(longest))
    return args, {**inputs, **boundaries, **lengths}
