"""One model under several adapters: which of them it wears, and which of them learn.

PEFT freezes all adapters but the one that is chosen; here an adapter learns unless it was added to
be used alone (`inference_mode`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peft import PeftModel
from torch import Tensor


@contextmanager
def use_adapter(model: PeftModel, adapter: str) -> Iterator[None]:
    """Use an adapter of a model for a while; those that learn go on learning."""
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
    """Undo what choosing or adding an adapter does to the others."""
    for name, config in model.peft_config.items():
        model.set_requires_grad(name, requires_grad=not config.inference_mode)


def hidden_states(model: PeftModel, adapter: str, **batch: Tensor) -> Tensor:
    """Return what the body of a language model makes of texts under an adapter.

    Args:
        model: With the adapter.
        adapter: Its name.
        batch: `input_ids`, and `position_ids` where they do not count up from 0; [texts, length].

    Returns:
        Of the last layer, [texts, length, width].
    """
    with use_adapter(model, adapter):
        body: Any = model.get_base_model().base_model
        found: Tensor = body(**batch, use_cache=False).last_hidden_state
    return found
