"""Side by side, each member times a weight of its own: given, or learned in each layer."""

from __future__ import annotations

import torch
from torch import nn

from training.adapters.composition.combiners.base import Combiner, CombinerInput, LayerSpec
from training.config.composition import Parallel as Section


class ParallelCombiner(Combiner):
    """y = W x + Σ wᵢ dᵢ(x), with w learned or fixed."""

    def __init__(self, how: Section, seat: LayerSpec):
        super().__init__(how, seat)
        self.given = how.weights
        if self.given is None:
            self.weights = nn.Parameter(torch.full((seat.members,), how.start))

    def shares(self, meeting: CombinerInput) -> torch.Tensor:
        """Return the weights."""
        return self.fixed_shares().to(meeting.x.device)

    def fixed_shares(self) -> torch.Tensor:
        """Return the weights."""
        return self.weights if self.given is None else torch.tensor(self.given)
