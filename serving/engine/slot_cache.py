"""Key-value cache of which each sequence has a slot, at its own length.

A token is written at its own position in its slot, so nothing is padded on the left, and a sequence
joins or leaves the batch without a change of the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

_POSITIONS, _ROWS = 64, 4
"""Positions and slots by which the cache grows at least."""


@dataclass
class CacheWindow:
    """Part of the cache that a forward pass reads and writes.

    Attributes:
        rows: Slots of the sequences, [sequences].
        positions: Positions of the new tokens, [sequences, tokens].
        width: Positions that are read, of each slot.
    """

    rows: Tensor
    positions: Tensor
    width: int

    @property
    def span(self) -> slice | None:
        """Slots as a slice, which needs no copy; None if they are not next to each other."""
        first = int(self.rows[0])
        contiguous = torch.arange(first, first + len(self.rows), device=self.rows.device)
        return slice(first, first + len(self.rows)) if torch.equal(self.rows, contiguous) else None


class SlotLayer(CacheLayerMixin):
    """Keys and values of a layer, [slots, heads, positions, head size]."""

    is_sliding = False

    def __init__(self) -> None:
        super().__init__()
        self.window: CacheWindow | None = None
        self.span: slice | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate nothing yet: `_grow` does."""
        self.keys, self.values = (
            states.new_zeros(0, states.shape[-3], 0, states.shape[-1])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Write the states of new tokens, and return all states that these tokens attend to."""
        window = self.window
        assert window is not None
        rows, extent = window.rows[:, None], (int(window.rows.max()) + 1, window.width)
        self.write(key_states, value_states, rows, window.positions, extent)
        chosen = window.rows if self.span is None else self.span
        return self.keys[chosen, :, : window.width], self.values[chosen, :, : window.width]

    def write(
        self,
        key_states: Tensor,
        value_states: Tensor,
        rows: Tensor,
        positions: Tensor,
        extent: tuple[int, int],
    ) -> None:
        """Write the states of new tokens.

        Args:
            key_states: Keys, [sequences, heads, tokens, head size].
            value_states: Values, likewise.
            rows: Slot of each token, [sequences, tokens] or [sequences, 1].
            positions: Position of each token, [sequences, tokens].
            extent: Number of slots and of positions that the cache must have.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self._grow(*extent)
        self.keys[rows, :, positions] = key_states.transpose(1, 2)
        self.values[rows, :, positions] = value_states.transpose(1, 2)

    def _grow(self, rows: int, width: int) -> None:
        """Make room for slots and positions, at least doubling it: growing copies everything."""
        slots, _, room, _ = self.keys.shape
        if rows <= slots and width <= room:
            return
        more_slots = 0 if rows <= slots else max(rows, 2 * slots, _ROWS) - slots
        more = 0 if width <= room else max(width, 2 * room, _POSITIONS) - room
        self.keys, self.values = (
            torch.nn.functional.pad(states, (0, 0, 0, more, 0, 0, 0, more_slots))
            for states in (self.keys, self.values)
        )

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a sequence to another slot.

        Args:
            source: Slot of the sequence.
            target: The other slot.
            length: Tokens of the sequence.
        """
        if self.is_initialized:
            for states in (self.keys, self.values):
                states[target, :, :length] = states[source, :, :length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the number of keys and the position of the first."""
        return (0 if self.window is None else self.window.width), 0

    def get_seq_length(self) -> int:
        """Return 0: positions are always given to the model."""
        return 0

    def get_max_length(self) -> int:
        """Return -1: the cache grows."""
        return -1


class SlotCache(Cache):
    """Cache of a model with a slot for each sequence.

    Args:
        layers: Number of layers of the model.
    """

    def __init__(self, layers: int):
        super().__init__(layers=[SlotLayer() for _ in range(layers)])

    def select(self, window: CacheWindow) -> None:
        """Choose what the next forward pass reads and writes."""
        span = window.span
        for layer in self.layers:
            layer.window, layer.span = window, span

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a sequence to another slot.

        Args:
            source: Slot of the sequence.
            target: The other slot.
            length: Tokens of the sequence.
        """
        for layer in self.layers:
            layer.move(source, target, length)
