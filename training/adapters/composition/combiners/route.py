"""One member at a time, chosen by the input, in one layer for all."""

from __future__ import annotations

import torch
from torch import nn

from training.adapters.composition.combiners.base import (
    Combiner,
    CombinerInput,
    LayerSpec,
    RunningMean,
)
from training.config.composition import Route as Section


class RouteCombiner(Combiner):
    """y = W x + dₖ(x), with k decided by h, the mean so far of what the first layer reads.

    classifier: k = argmax of V h + b. The gradient is that of its softmax (straight-through,
                Bengio et al. 2013, arXiv:1308.3432), so that training and use say the same.
    centroid:   k = argmin of |h - cᵢ|², with cᵢ the mean of h over rows of that member's task.
    """

    def __init__(self, how: Section, seat: LayerSpec):
        super().__init__(how, seat)
        self.learned = how.learns
        self.mean = RunningMean()
        if not seat.decides:
            return
        if self.learned:
            self.weights = nn.Parameter(torch.zeros(seat.members, seat.inputs))
            self.bias = nn.Parameter(torch.zeros(seat.members))
        else:
            self.centroids = nn.Parameter(torch.zeros(seat.members, seat.inputs))

    def shares(self, meeting: CombinerInput) -> torch.Tensor:
        """Return a 1 for the one that is chosen and 0 for the others, [batch, length, members]."""
        decided = meeting.under_way.decided
        if self.seat.decides:
            decided[self.seat.name] = self._decide(meeting)
        if self.seat.name not in decided:
            raise RuntimeError(
                "a layer was reached before the one that decides for all: the model runs its "
                "layers in another order than when these adapters were composed"
            )
        return decided[self.seat.name]

    def _decide(self, meeting: CombinerInput) -> torch.Tensor:
        mean = self.mean(meeting.x, meeting.under_way)[..., None, :]
        # Written out and in fp32, whatever the precision: a choice should not hang on rounding.
        if self.learned:
            scores = (mean * self.weights.float()).sum(dim=-1) + self.bias.float()
        else:
            scores = -((mean - self.centroids.float()) ** 2).sum(dim=-1)
        chosen = nn.functional.one_hot(scores.argmax(dim=-1), self.seat.members).to(scores.dtype)
        if not self.learned:
            return chosen
        soft = torch.softmax(scores, dim=-1)
        return chosen + soft - soft.detach()
