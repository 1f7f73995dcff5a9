"""Attention over adapters: what a layer says asks, what each member would add answers."""

from __future__ import annotations

import torch
from torch import nn

from training.adapters.composition.combiners.base import Combiner, CombinerInput, LayerSpec
from training.config.composition import Fusion as Section


class FusionCombiner(Combiner):
    """y' = y + Σ gᵢ dᵢ, with g = softmax over i of (Q y)·(K dᵢ) / √size.

    After AdapterFusion (Pfeiffer et al. 2021, arXiv:2005.00247), with Q and K of few rows and
    without its V, which starts as the unit matrix there and is as large as a layer: what a member
    adds is added as it is.
    """

    def __init__(self, how: Section, seat: LayerSpec):
        super().__init__(how, seat)
        self.queries = nn.Parameter(torch.empty(how.size, seat.outputs))
        nn.init.normal_(self.queries, std=seat.outputs**-0.5)
        # Zero: at first all count the same.
        self.keys = nn.Parameter(torch.zeros(how.size, seat.outputs))
        self.scale = how.size**-0.5

    def shares(self, meeting: CombinerInput) -> torch.Tensor:
        """Return shares that sum to 1, [batch, length, members].

        (Q y)·(K d) = (Kᵀ Q y)·d, so that keys of what members add are never written out.
        """
        asked = nn.functional.linear(meeting.y.to(self.queries.dtype), self.queries)
        return torch.softmax(meeting.agree(asked @ self.keys) * self.scale, dim=-1)
