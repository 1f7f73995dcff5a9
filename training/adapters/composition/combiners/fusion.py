"""AdapterFusion: attention over the members, with the layer's output as the query."""

from __future__ import annotations

import torch
from torch import nn

from training.adapters.composition.combiners.base import Combiner, CombinerInput, LayerSpec
from training.config.composition import Fusion as Section


class FusionCombiner(Combiner):
    """Combiner y' = y + Σ gᵢ dᵢ, with g = softmax over i of (Q y)·(K dᵢ) / √size.

    Follows AdapterFusion (Pfeiffer et al. 2021, arXiv:2005.00247) with low-rank Q and K and without
    the value matrix V. In the paper V is as large as a layer and starts as the identity; here the
    deltas are added without a projection.
    """

    def __init__(self, config: Section, layer: LayerSpec):
        super().__init__(config, layer)
        self.queries = nn.Parameter(torch.empty(config.size, layer.outputs))
        nn.init.normal_(self.queries, std=layer.outputs**-0.5)
        # With zero keys all members start with the same weight.
        self.keys = nn.Parameter(torch.zeros(config.size, layer.outputs))
        self.scale = config.size**-0.5

    def mixing_weights(self, inputs: CombinerInput) -> torch.Tensor:
        """Return attention weights that sum to 1, `[batch, length, members]`.

        (Q y)·(K d) = (Kᵀ Q y)·d, so the keys of the deltas are never materialized.
        """
        query = nn.functional.linear(inputs.y.to(self.queries.dtype), self.queries)
        return torch.softmax(inputs.dot(query @ self.keys) * self.scale, dim=-1)
