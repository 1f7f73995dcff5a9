"""Stacked composition: each member receives the output of the members before it."""

from __future__ import annotations

import torch

from training.adapters.composition.combiners.base import Combiner, CombinerInput


class StackCombiner(Combiner):
    """Combiner y₀ = f(x), yᵢ = yᵢ₋₁ + dᵢ(x, yᵢ₋₁).

    A LoRA update reads only x, so a stack of LoRA adapters is their sum. A sequential bottleneck
    reads the output of the one before it.
    """

    sequential = True

    def mixing_weights(self, inputs: CombinerInput) -> torch.Tensor:
        """Return 1 for each member, `[members]`."""
        return self.static_weights().to(inputs.x.device)

    def static_weights(self) -> torch.Tensor:
        """Return 1 for each member, `[members]`."""
        return torch.ones(self.layer.num_members)
