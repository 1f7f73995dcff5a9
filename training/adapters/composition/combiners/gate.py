"""Gated mixture: a softmax of a linear layer on the hidden state weights the members."""

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
    """Combiner y = W x + Σ gᵢ dᵢ(x), with g = softmax(V h + b); h is x or its running mean.

    With `allow_none` the softmax has one more entry, whose delta is zero.
    """

    def __init__(self, config: Section, layer: LayerSpec):
        super().__init__(config, layer)
        # With zero gates all choices start with the same weight, for every input.
        choices = config.num_choices(layer.num_members)
        self.weights = nn.Parameter(torch.zeros(choices, layer.inputs))
        self.bias = nn.Parameter(torch.zeros(choices))
        self.mean = RunningMean() if config.per == "sequence" else None

    def mixing_weights(self, inputs: CombinerInput) -> torch.Tensor:
        """Return gate values, `[batch, length, members]`.

        They sum to 1, or to less if no adapter is a choice.
        """
        hidden = inputs.x if self.mean is None else self.mean(inputs.x, inputs.state)
        logits = nn.functional.linear(hidden.to(self.weights.dtype), self.weights, self.bias)
        return torch.softmax(logits, dim=-1)[..., : self.layer.num_members]
