"""Executor that computes a step in one forward pass: parts of prompts and next tokens together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from serving.engine.adapters import AdapterSwitch
from serving.engine.executor import SequencePart, SlotMove
from serving.engine.packed_attention import NAME, PackedStep, register
from serving.engine.slot_cache import SlotCache


class PackedExecutor:
    """Executor with one forward pass for all tokens of a step.

    Adapters that cannot share a forward pass take turns.

    Args:
        switch: Causal language model with its adapters.
    """

    def __init__(self, switch: AdapterSwitch):
        register()
        self._switch = switch
        config = switch.model.config.get_text_config()
        self._layers: int = config.num_hidden_layers
        self._cache = SlotCache(self._layers)

    def forward(self, parts: Sequence[SequencePart]) -> Tensor:
        """Return the logits of the tokens that the parts keep.

        Raises:
            NotImplementedError: The attention of the model cannot be computed in a pack.
        """
        groups = self._switch.groups([part.adapter for part in parts])
        if len(groups) == 1:
            return self._forward(parts)
        logits: dict[int, Tensor] = {}
        for group in groups:
            chosen = [parts[index] for index in group]
            kept = torch.split(self._forward(chosen), [part.keep for part in chosen])
            logits.update(zip(group, kept, strict=True))
        return torch.cat([logits[index] for index in range(len(parts))])

    def move(self, move: SlotMove) -> None:
        """Move a sequence to another slot."""
        with torch.inference_mode():
            self._cache.move(move.source, move.target, move.length)

    def _forward(self, parts: Sequence[SequencePart]) -> Tensor:
        model = self._switch.model
        names = [part.adapter for part in parts for _ in part.ids]
        kept = _kept_places(parts)
        with torch.inference_mode(), _packed_attention(model), self._switch.active(names):
            step = PackedStep(self._cache, parts, model.device, model.dtype)
            with _head_of(model, kept or [0], len(names)):
                logits: Tensor = model(
                    input_ids=step.ids,
                    position_ids=step.positions,
                    use_cache=False,
                    packed_step=step,
                ).logits[:, 0]
        if step.layers != self._layers:
            raise NotImplementedError(
                f"{step.layers} of {self._layers} layers have attention that can be packed"
            )
        if len(logits) != len(kept or [0]):  # the head is no module that was found
            logits = logits[kept]
        return logits[: len(kept)].float()


def _kept_places(parts: Sequence[SequencePart]) -> list[int]:
    """Return the places in the pack of the tokens whose logits are returned."""
    places: list[int] = []
    end = 0
    for part in parts:
        end += len(part.ids)
        places.extend(range(end - part.keep, end))
    return places


@contextmanager
def _packed_attention(model: Any) -> Iterator[None]:
    """Let the model compute attention by `packed_attention` while the context lasts."""
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


@contextmanager
def _head_of(model: Any, kept: list[int], count: int) -> Iterator[None]:
    """Compute the logits of some tokens only, while the context lasts.

    Args:
        model: Causal language model.
        kept: Places of the tokens.
        count: Number of all tokens.
    """
    head = model.get_output_embeddings()
    if head is None or len(kept) == count:
        yield
        return

    def select(_: Any, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> Any:
        # PEFT gives the name of the adapter of each row to a layer that has adapters.
        if names := kwargs.get("adapter_names"):
            kwargs = {**kwargs, "adapter_names": [names[place] for place in kept]}
        return (args[0][kept], *args[1:]), kwargs

    handle = head.register_forward_pre_hook(select, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
