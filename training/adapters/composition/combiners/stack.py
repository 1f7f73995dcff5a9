"""One after another: each member is put on what those before it made of the layer."""

from __future__ import annotations

import torch

from training.adapters.composition.combiners.base import Combiner, CombinerInput


class StackCombiner(Combiner):
    """y₀ = f(x), yᵢ = yᵢ₋₁ + dᵢ(x, yᵢ₋₁).

    An update of weights reads x alone, so that a stack of such is their sum; a bottleneck behind a
    sublayer reads what the one before it has said.
    """

    in_turn = True

    def shares(self, meeting: CombinerInput) -> torch.Tensor:
        """Return a 1 for each."""
        return self.fixed_shares().to(meeting.x.device)

    def fixed_shares(self) -> torch.Tensor:
        """Return a 1 for each."""
        return torch.ones(self.seat.members)
