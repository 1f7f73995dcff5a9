"""Forward passes for many sequences, each at its own length, with its own adapter.

There are three executors. `PackedExecutor` (`packed_executor.py`) is the fastest; the two of this
module serve the models that it cannot compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from serving.engine.adapters import AdapterSwitch
from serving.engine.masks import MaskBuilder
from serving.engine.slot_cache import CacheWindow, SlotCache


@dataclass(frozen=True)
class SequencePart:
    """Tokens of a sequence that a step reads: a part of its prompt, or the last of its answer.

    Attributes:
        slot: Slot of the sequence.
        ids: The tokens.
        start: Position of the first of them.
        adapter: Adapter of the sequence.
        keep: Number of last tokens whose logits are returned.
    """

    slot: int
    ids: Sequence[int]
    start: int
    adapter: str | None = None
    keep: int = 1


@dataclass(frozen=True)
class SlotMove:
    """Move of a sequence to a slot that is free.

    Attributes:
        source: Slot of the sequence.
        target: The other slot.
        length: Tokens of the sequence in the cache.
    """

    source: int
    target: int
    length: int


class Executor(Protocol):
    """Forward passes of a model over sequences in numbered slots."""

    def forward(self, parts: Sequence[SequencePart]) -> Tensor:
        """Return the logits of the tokens that the parts keep, [tokens kept, vocabulary], in fp32.

        Args:
            parts: New tokens of sequences, at most one part for each.
        """

    def move(self, move: SlotMove) -> None:
        """Move a sequence to another slot."""


class BatchedExecutor:
    """Executor with a forward pass for each part of a prompt and one for all single tokens.

    Args:
        switch: Causal language model with its adapters.
    """

    def __init__(self, switch: AdapterSwitch):
        self._switch = switch
        config = switch.model.config.get_text_config()
        self._cache = SlotCache(config.num_hidden_layers)
        self._mask = MaskBuilder(switch.model)

    def forward(self, parts: Sequence[SequencePart]) -> Tensor:
        """Return the logits of the tokens that the parts keep."""
        single = [index for index, part in enumerate(parts) if len(part.ids) == 1]
        groups = self._switch.groups([parts[index].adapter for index in single])
        batches = [[single[place] for place in group] for group in groups if group]
        batches += [[index] for index, part in enumerate(parts) if len(part.ids) > 1]
        logits: dict[int, Tensor] = {}
        for batch in batches:
            chosen = [parts[index] for index in batch]
            logits.update(zip(batch, self._forward(chosen), strict=True))
        return torch.cat([_kept(logits[index], part) for index, part in enumerate(parts)])

    def move(self, move: SlotMove) -> None:
        """Move a sequence to another slot."""
        with torch.inference_mode():
            self._cache.move(move.source, move.target, move.length)

    def _forward(self, parts: Sequence[SequencePart]) -> Tensor:
        """Return logits, [parts, tokens kept, vocabulary]; the parts have the same length."""
        device = self._switch.model.device
        tokens = torch.tensor([list(part.ids) for part in parts], device=device)
        first = torch.tensor([part.start for part in parts], device=device)[:, None]
        positions = first + torch.arange(tokens.shape[1], device=device)
        width = max(part.start for part in parts) + tokens.shape[1]
        slots = torch.tensor([part.slot for part in parts], device=device)
        self._cache.select(CacheWindow(slots, positions, width))
        with torch.inference_mode(), self._switch.active([part.adapter for part in parts]):
            logits: Tensor = self._switch.model(
                input_ids=tokens,
                position_ids=positions,
                attention_mask=self._mask(positions, width),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=max(1, *(part.keep for part in parts)),
            ).logits
        return logits.float()


class SequentialExecutor:
    """Executor with a cache of its own for each sequence, for models that cannot share one.

    Args:
        switch: Causal language model with its adapters.
    """

    def __init__(self, switch: AdapterSwitch):
        self._switch = switch
        self._caches: dict[int, Any] = {}

    def forward(self, parts: Sequence[SequencePart]) -> Tensor:
        """Return the logits of the tokens that the parts keep."""
        return torch.cat([_kept(self._forward(part), part) for part in parts])

    def _forward(self, part: SequencePart) -> Tensor:
        if part.start == 0:
            self._caches.pop(part.slot, None)
        device = self._switch.model.device
        with torch.inference_mode(), self._switch.active([part.adapter]):
            output = self._switch.model(
                input_ids=torch.tensor([list(part.ids)], device=device),
                past_key_values=self._caches.get(part.slot),
                use_cache=True,
                logits_to_keep=max(1, part.keep),
            )
        self._caches[part.slot] = output.past_key_values
        logits: Tensor = output.logits[0].float()
        return logits

    def move(self, move: SlotMove) -> None:
        """Move a sequence to another slot."""
        self._caches[move.target] = self._caches.pop(move.source)


def _kept(logits: Tensor, part: SequencePart) -> Tensor:
    """Return the logits of the last tokens of a part that it keeps."""
    return logits[len(logits) - part.keep :]
