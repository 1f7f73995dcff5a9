"""Switching between several adapters of one model without changing which of them are trained.

`PeftModel.set_adapter` freezes every adapter but the active one. Here an adapter stays trainable
unless its configuration has `inference_mode`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peft import PeftModel
from torch import Tensor


@contextmanager
def use_adapter(model: PeftModel, adapter: str) -> Iterator[None]:
    """Make `adapter` active inside the context; trainable adapters stay trainable."""
    before = model.active_adapter
    if before == adapter:
        yield
        return
    model.set_adapter(adapter)
    restore_requires_grad(model)
    try:
        yield
    finally:
        model.set_adapter(before)
        restore_requires_grad(model)


def restore_requires_grad(model: PeftModel) -> None:
    """Make all adapters without `inference_mode` trainable again after PEFT froze them."""
    for name, config in model.peft_config.items():
        model.set_requires_grad(name, requires_grad=not config.inference_mode)


def hidden_states(model: PeftModel, adapter: str, **batch: Tensor) -> Tensor:
    """Return the last hidden states of a language model with one adapter active.

    Args:
        model: Model with the adapter.
        adapter: Name of the adapter.
        batch: `input_ids`, and `position_ids` if they do not count from 0; [texts, length].

    Returns:
        Hidden states of the last layer, [texts, length, hidden size].
    """
    with use_adapter(model, adapter):
        body: Any = model.get_base_model().base_model
        states: Tensor = body(**batch, use_cache=False).last_hidden_state
    return states
