"""Routing: one member per token, chosen by the input in one layer and used in all."""

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
    """Combiner y = W x + dₖ(x), with k chosen by h, the running mean of the first layer's input.

    classifier: k = argmax of V h + b. The backward pass uses the gradient of the softmax
                (straight-through estimator, Bengio et al. 2013, arXiv:1308.3432), so training and
                inference both activate exactly one member.
    centroid:   k = argmin of |h - cᵢ|², with cᵢ the mean of h over rows of that member's task.

    With `allow_none` there is one more k, the last, whose delta is zero: conditional activation.
    """

    def __init__(self, config: Section, layer: LayerSpec):
        super().__init__(config, layer)
        self.learned = config.learns
        self.choices = config.num_choices(layer.num_members)
        self.mean = RunningMean()
        if not layer.is_router:
            return
        if self.learned:
            self.weights = nn.Parameter(torch.zeros(self.choices, layer.inputs))
            self.bias = nn.Parameter(torch.zeros(self.choices))
        else:
            self.centroids = nn.Parameter(torch.zeros(self.choices, layer.inputs))

    def mixing_weights(self, inputs: CombinerInput) -> torch.Tensor:
        """Return the one-hot choice of a member, `[batch, length, members]`; zeros for none.

        Raises:
            RuntimeError: This layer runs before the one that computes the routing.
        """
        routing = inputs.state.routing
        if self.layer.is_router:
            routing[self.layer.name] = self._route(inputs)
        if self.layer.name not in routing:
            raise RuntimeError(
                "a layer ran before the one that computes the routing: the model runs its layers "
                "in another order than when these adapters were composed"
            )
        return routing[self.layer.name]

    def _route(self, inputs: CombinerInput) -> torch.Tensor:
        mean = self.mean(inputs.x, inputs.state)[..., None, :]
        # Computed in fp32 and without a matmul kernel, under autocast too: rounding must not
        # change which member is chosen.
        if self.learned:
            scores = (mean * self.weights.float()).sum(dim=-1) + self.bias.float()
        else:
            scores = -((mean - self.centroids.float()) ** 2).sum(dim=-1)
        chosen = nn.functional.one_hot(scores.argmax(dim=-1), self.choices).to(scores.dtype)
        if self.learned:
            probabilities = torch.softmax(scores, dim=-1)
            chosen = chosen + probabilities - probabilities.detach()
        return chosen[..., : self.layer.num_members]
