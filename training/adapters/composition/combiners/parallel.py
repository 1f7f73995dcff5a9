"""Parallel composition: each delta times one weight per layer, fixed or learned."""

from __future__ import annotations

import torch
from torch import nn

from training.adapters.composition.combiners.base import Combiner, CombinerInput, LayerSpec
from training.config.composition import Parallel as Section


class ParallelCombiner(Combiner):
    """Combiner y = W x + Σ wᵢ dᵢ(x), with w learned or fixed."""

    def __init__(self, config: Section, layer: LayerSpec):
        super().__init__(config, layer)
        self.fixed = config.weights
        if self.fixed is None:
            self.weights = nn.Parameter(torch.full((layer.num_members,), config.start))

    def mixing_weights(self, inputs: CombinerInput) -> torch.Tensor:
        """Return the weights, `[members]`."""
        return self.static_weights().to(inputs.x.device)

    def static_weights(self) -> torch.Tensor:
        """Return the weights, `[members]`."""
        return self.weights if self.fixed is None else torch.tensor(self.fixed)
