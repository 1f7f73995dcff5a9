"""Side by side, their shares decided by a small layer: a softmax of the hidden state."""

from __future__ import annotations

import torch
from torch import nn

from training.adapters.composition.combiners.base import (
    Combiner,
    CombinerInput,
    LayerSpec,
    RunningMean,
)
from training.config.composition import Gate as Section


class GateCombiner(Combiner):
    """y = W x + Σ gᵢ dᵢ(x), with g = softmax(V h + b) and h = x, or the mean of x so far."""

    def __init__(self, how: Section, seat: LayerSpec):
        super().__init__(how, seat)
        # Zero: at first all count the same, wherever the input lies.
        self.weights = nn.Parameter(torch.zeros(seat.members, seat.inputs))
        self.bias = nn.Parameter(torch.zeros(seat.members))
        self.mean = RunningMean() if how.per == "sequence" else None

    def shares(self, meeting: CombinerInput) -> torch.Tensor:
        """Return shares that sum to 1, [batch, length, members]."""
        x = meeting.x if self.mean is None else self.mean(meeting.x, meeting.under_way)
        x = x.to(self.weights.dtype)
        return torch.softmax(nn.functional.linear(x, self.weights, self.bias), dim=-1)
