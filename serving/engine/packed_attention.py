"""Attention of a packed step: tokens of many sequences, each over the cache of its own sequence.

The model sees every token as a row of a batch with one token, [tokens, 1]: an adapter can then
differ from token to token, and all layers but attention compute the same as for any other batch.
Attention is computed by the `sdpa` of Transformers for each segment of the pack: single tokens of
neighbouring slots together, over a view of the cache, and each part of a prompt by itself.

What the model asks for beyond causal attention (a window, a bias, a soft cap) raises an error that
the probe of the engine finds when the model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface

from serving.engine.executor import SequencePart
from serving.engine.slot_cache import SlotCache

NAME = "sdpa_packed_step"
_HARMLESS = frozenset(
    (
        "cache_position",
        "dropout",
        "is_causal",
        "output_attentions",
        "output_hidden_states",
        "position_ids",
        "use_cache",
    )
)
"""Arguments of attention functions that change nothing in an inference over given positions."""


@dataclass(frozen=True)
class Segment:
    """Consecutive tokens of a pack whose attention is one call.

    Attributes:
        begin: Place of the first token in the pack.
        end: Place after the last one.
        slot: First slot.
        slots: Number of slots; with more than one, each has one token.
        width: Positions of the cache that are read.
        mask: Additive mask, [slots, 1, tokens of a slot, width]; None for causal attention.
    """

    begin: int
    end: int
    slot: int
    slots: int
    width: int
    mask: Tensor | None


class PackedStep:
    """Tokens of a step, passed through the layers to attention.

    Args:
        cache: The cache.
        parts: New tokens of sequences, at most one part for each.
        device: Device of the model.
        dtype: Type of its hidden states.

    Attributes:
        ids: The tokens, [tokens, 1].
        positions: Their positions, [tokens, 1].
        layers: Number of attention layers that were computed.
    """

    def __init__(
        self,
        cache: SlotCache,
        parts: Sequence[SequencePart],
        device: torch.device,
        dtype: torch.dtype,
    ):
        table = [
            (token, part.slot, position)
            for part in parts
            for position, token in enumerate(part.ids, start=part.start)
        ]
        # One transfer to the device for all three.
        columns = torch.tensor(table, device=device).T.contiguous()
        self.ids, self._rows, self.positions = columns[:, :, None]
        self._cache = cache
        slots = max(part.slot for part in parts) + 1
        self._extent = slots, max(part.start + len(part.ids) for part in parts)
        self._segments = [self._segment(run, begin, dtype) for run, begin in _runs(parts)]
        self.layers = 0

    def _segment(self, run: Sequence[SequencePart], begin: int, dtype: torch.dtype) -> Segment:
        tokens = sum(len(part.ids) for part in run)
        width = max(part.start + len(part.ids) for part in run)
        mask = None
        if any(part.start != width - len(part.ids) or _continues(part) for part in run):
            positions = self.positions[begin : begin + tokens].view(len(run), 1, -1, 1)
            hidden = torch.arange(width, device=positions.device) > positions
            mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
            mask.masked_fill_(hidden, -torch.inf)
        return Segment(begin, begin + tokens, run[0].slot, len(run), width, mask)

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, **options: Any
    ) -> Tensor:
        """Write keys and values to the cache, and return the output of attention.

        Args:
            module: The attention layer.
            query: Queries, [tokens, heads, 1, head size].
            key: Keys, [tokens, key heads, 1, head size].
            value: Values, in the same shape.
            options: Arguments of the attention of Transformers.

        Returns:
            The output, [tokens, 1, heads, head size].
        """
        layer = self._cache.layers[module.layer_idx]
        layer.write(key, value, self._rows, self.positions, self._extent)
        outputs = []
        for segment in self._segments:
            chosen = slice(segment.slot, segment.slot + segment.slots)
            keys = layer.keys[chosen, :, : segment.width]
            values = layer.values[chosen, :, : segment.width]
            queries = query[segment.begin : segment.end]
            if segment.slots == 1:
                queries = queries.transpose(0, 2)  # [1, heads, tokens, head size]
            output, _ = sdpa_attention_forward(
                module, queries, keys, values, segment.mask, **options
            )
            outputs.append(output.transpose(0, 1) if segment.slots == 1 else output)
        self.layers += 1
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _continues(part: SequencePart) -> bool:
    """Return whether a part has several tokens that follow tokens in the cache."""
    return len(part.ids) > 1 and part.start > 0


def _runs(parts: Sequence[SequencePart]) -> list[tuple[list[SequencePart], int]]:
    """Return parts whose attention is one call, with the place of their first token.

    Single tokens of slots that are next to each other share a call.
    """
    runs: list[tuple[list[SequencePart], int]] = []
    place = 0
    for part in parts:
        last = runs[-1][0][-1] if runs else None
        if last and len(last.ids) == len(part.ids) == 1 and last.slot + 1 == part.slot:
            runs[-1][0].append(part)
        else:
            runs.append(([part], place))
        place += len(part.ids)
    return runs


def register() -> None:
    """Make the attention known to Transformers, as `NAME`."""
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, _mask)


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packed_step: PackedStep | None = None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Return the output of attention in a packed step.

    Raises:
        NotImplementedError: The model asks for more than causal attention.
    """
    asked = {
        name for name, given in options.items() if given is not None and given is not False
    } - _HARMLESS
    if attention_mask is not None:
        asked.add("attention_mask")
    if packed_step is None or asked:
        needs = ", ".join(sorted(asked)) or "a packed step"
        raise NotImplementedError(f"the attention of {type(module).__name__} needs {needs}")
    output = packed_step.attend(module, query, key, value, scaling=scaling)
    return output, None


def _mask(
    batch_size: int, q_length: int, kv_length: int, local_size: int | None = None, **_: Any
) -> None:
    """Return no mask: a packed step knows what each token attends to.

    Raises:
        NotImplementedError: The model attends to a window or a chunk.
    """
    if local_size is not None:
        raise NotImplementedError(f"the model attends to the last {local_size} tokens only")
