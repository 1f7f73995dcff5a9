"""Forward passes for many sequences, each at its own length, with its own adapter."""

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
class PromptPart:
    """Tokens of a prompt that are read next.

    Attributes:
        slot: Slot of the sequence.
        ids: The tokens.
        start: Position of the first of them.
        adapter: Adapter of the sequence.
        all_logits: Return the logits after each token, not only the last.
    """

    slot: int
    ids: Sequence[int]
    start: int
    adapter: str | None = None
    all_logits: bool = False


@dataclass(frozen=True)
class NextTokens:
    """One more token of each of several sequences.

    Attributes:
        slots: Slots of the sequences.
        ids: The token of each.
        starts: Its position in each.
        adapters: Adapter of each.
    """

    slots: Sequence[int]
    ids: Sequence[int]
    starts: Sequence[int]
    adapters: Sequence[str | None]


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

    def read(self, part: PromptPart) -> Tensor:
        """Return the logits after tokens of a prompt, [tokens or 1, vocabulary], in fp32."""

    def step(self, tokens: NextTokens) -> Tensor:
        """Return the logits after one more token of each sequence, in fp32."""

    def move(self, move: SlotMove) -> None:
        """Move a sequence to another slot."""


class BatchedExecutor:
    """Executor that answers all sequences in one forward pass.

    Args:
        switch: Causal language model with its adapters.
    """

    def __init__(self, switch: AdapterSwitch):
        self._switch = switch
        config = switch.model.config.get_text_config()
        self._cache = SlotCache(config.num_hidden_layers)
        self._mask = MaskBuilder(switch.model)

    def read(self, part: PromptPart) -> Tensor:
        """Return the logits after tokens of a prompt."""
        keep = 0 if part.all_logits else 1
        (logits,) = self._forward([part.slot], [list(part.ids)], [part.start], [part.adapter], keep)
        return logits

    def step(self, tokens: NextTokens) -> Tensor:
        """Return the logits after one more token of each sequence."""
        count = len(tokens.ids)
        result: list[Tensor] = [torch.empty(0)] * count
        for group in self._switch.groups(tokens.adapters):
            logits = self._forward(
                [tokens.slots[index] for index in group],
                [[tokens.ids[index]] for index in group],
                [tokens.starts[index] for index in group],
                [tokens.adapters[index] for index in group],
                1,
            )
            if len(group) == count:
                return logits[:, -1]
            for index, row in zip(group, logits[:, -1], strict=True):
                result[index] = row
        return torch.stack(result)

    def move(self, move: SlotMove) -> None:
        """Move a sequence to another slot."""
        with torch.inference_mode():
            self._cache.move(move.source, move.target, move.length)

    def _forward(
        self,
        slots: Sequence[int],
        ids: list[list[int]],
        starts: Sequence[int],
        adapters: Sequence[str | None],
        keep: int,
    ) -> Tensor:
        """Return logits, [sequences, tokens kept, vocabulary].

        Args:
            slots: Slots of the sequences.
            ids: New tokens of each, the same number for all.
            starts: Position of the first new token of each.
            adapters: Adapter of each.
            keep: Number of last tokens whose logits are returned; 0 for all.
        """
        device = self._switch.model.device
        tokens = torch.tensor(ids, device=device)
        first = torch.tensor(starts, device=device)[:, None]
        positions = first + torch.arange(tokens.shape[1], device=device)
        width = max(starts) + tokens.shape[1]
        self._cache.select(CacheWindow(torch.tensor(slots, device=device), positions, width))
        with torch.inference_mode(), self._switch.active(adapters):
            logits: Tensor = self._switch.model(
                input_ids=tokens,
                position_ids=positions,
                attention_mask=self._mask(positions, width),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=keep,
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

    def read(self, part: PromptPart) -> Tensor:
        """Return the logits after tokens of a prompt."""
        if part.start == 0:
            self._caches.pop(part.slot, None)
        device = self._switch.model.device
        with torch.inference_mode(), self._switch.active([part.adapter]):
            output = self._switch.model(
                input_ids=torch.tensor([list(part.ids)], device=device),
                past_key_values=self._caches.get(part.slot),
                use_cache=True,
                logits_to_keep=0 if part.all_logits else 1,
            )
        self._caches[part.slot] = output.past_key_values
        logits: Tensor = output.logits[0].float()
        return logits

    def step(self, tokens: NextTokens) -> Tensor:
        """Return the logits after one more token of each sequence."""
        each = zip(tokens.slots, tokens.ids, tokens.starts, tokens.adapters, strict=True)
        parts = [PromptPart(slot, [token], start, adapter) for slot, token, start, adapter in each]
        return torch.stack([self.read(part)[-1] for part in parts])

    def move(self, move: SlotMove) -> None:
        """Move a sequence to another slot."""
        self._caches[move.target] = self._caches.pop(move.source)
