"""Modules of a composed layer: a tree with adapters at its leaves and combiners at its nodes.

A forward pass has two phases. `project` computes the narrow activation of every adapter; then
`delta` expands it, weighted by the combiner. In between, a combiner may use `dot`, the product of
an adapter's delta with a direction. Weighting the narrow activation means that no tensor as wide as
the layer is stored per member.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from training.adapters.composition.combiners.base import Combiner, CombinerInput, ForwardState
from training.adapters.custom_tuner import ACTIVATIONS


class LowRankModule(nn.Module):
    """LoRA member: d(x) = B A x, with its scaling folded into B.

    Args:
        inputs: Input width of the layer.
        outputs: Output width of the layer.
        r: Rank.
    """

    def __init__(self, inputs: int, outputs: int, r: int):
        super().__init__()
        self.down = nn.Parameter(torch.zeros(r, inputs))
        self.up = nn.Parameter(torch.zeros(outputs, r))

    def project(self, x: Tensor, y: Tensor, state: ForwardState) -> Tensor:
        """Return A x, `[batch, length, r]`.

        Args:
            x: Input of the layer, `[batch, length, inputs]`.
            y: Output of the layer, not used by LoRA.
            state: State of the forward pass.
        """
        return nn.functional.linear(x.to(self.down.dtype), self.down)

    def delta(self, projected: Tensor, weight: Tensor | None) -> Tensor:
        """Return what is added to the layer's output, times a weight of shape [1] or [..., 1]."""
        # The weight may be in fp32 when the adapter is not.
        scaled = projected if weight is None else (projected * weight).to(self.up.dtype)
        return nn.functional.linear(scaled, self.up)

    def dot(self, projected: Tensor, direction: Tensor) -> Tensor:
        """Return the dot product of the delta with a direction, `[batch, length]`.

        Computed in the narrow space: (B p)·v = p·(Bᵀ v).
        """
        return ((direction.to(self.up.dtype) @ self.up) * projected).sum(dim=-1)

    def weight_delta(self) -> Tensor:
        """Return the equivalent update of the layer's weight, `[outputs, inputs]`."""
        return self.up.data @ self.down.data


class BottleneckModule(nn.Module):
    """Bottleneck member: d(x, y) = s (U a(D z + b) + c), where z is y or x.

    Args:
        width: Width of the residual stream.
        spec: The leaf of the tree: size, activation, scaling and placement.
    """

    def __init__(self, width: int, spec: dict[str, Any]):
        super().__init__()
        self.down = nn.Linear(width, spec["size"])
        self.up = nn.Linear(spec["size"], width)
        self.activation = ACTIVATIONS[spec["activation"]]()
        self.scaling = float(spec["scaling"])
        self.sequential = spec["placement"] == "sequential"

    def project(self, x: Tensor, y: Tensor, state: ForwardState) -> Tensor:
        """Return s a(D z + b), `[batch, length, size]`.

        Args:
            x: Input of the sublayer, `[batch, length, width]`.
            y: Output of the sublayer, `[batch, length, width]`.
            state: State of the forward pass.
        """
        source = y if self.sequential else x
        activated: Tensor = self.activation(self.down(source.to(self.down.weight.dtype)))
        return self.scaling * activated

    def delta(self, projected: Tensor, weight: Tensor | None) -> Tensor:
        """Return what is added to the sublayer's output, times a weight of [1] or [..., 1]."""
        if weight is None:
            return nn.functional.linear(projected, self.up.weight) + self.scaling * self.up.bias
        bias = weight * (self.scaling * self.up.bias)
        scaled = (projected * weight).to(self.up.weight.dtype)
        return nn.functional.linear(scaled, self.up.weight) + bias

    def dot(self, projected: Tensor, direction: Tensor) -> Tensor:
        """Return the dot product of the delta with a direction, `[batch, length]`."""
        direction = direction.to(self.up.weight.dtype)
        product = ((direction @ self.up.weight) * projected).sum(dim=-1)
        return product + direction @ (self.scaling * self.up.bias)

    def weight_delta(self) -> Tensor:
        """Raise: a nonlinear adapter has no equivalent weight update.

        Raises:
            ValueError: Always.
        """
        raise ValueError("a bottleneck adapter is not linear and cannot be merged into weights")


Part = Any
"""A leaf module or a `CompositionNode`; None for a leaf that does not target this layer."""


class CompositionNode:
    """Inner node of a composition: a combiner and the parts it combines.

    Args:
        combiner: Computes the members' weights.
        parts: Members in order; None for a member that does not target this layer.
    """

    def __init__(self, combiner: Combiner, parts: Sequence[Part]):
        self.combiner = combiner
        self.parts = tuple(parts)

    def project(self, x: Tensor, y: Tensor, state: ForwardState) -> Any:
        """Return the members' projections and their mixing weights.

        A sequential node has no phase in between: it returns the sum of its members' deltas.

        Args:
            x: Input of the layer, `[batch, length, inputs]`.
            y: Output of the layer, `[batch, length, outputs]`.
            state: State of the forward pass.
        """
        if self.combiner.sequential:
            return self._sequential_delta(x, y, state)
        projected = [part and part.project(x, y, state) for part in self.parts]

        def dot(direction: Tensor) -> Tensor:
            products = [
                direction.new_zeros(direction.shape[:-1]) if part is None
                else part.dot(own, direction)
                for part, own in zip(self.parts, projected, strict=True)
            ]  # fmt: skip
            return torch.stack(products, dim=-1)

        weights = self.combiner.mixing_weights(CombinerInput(x, y, dot, state))
        if state.recorder is not None:
            state.recorder.add(self.combiner.layer.name, weights)
        return projected, weights

    def _sequential_delta(self, x: Tensor, y: Tensor, state: ForwardState) -> Tensor:
        """Return the sum of all deltas, each computed from y plus the deltas before it."""
        total = torch.zeros((), device=y.device)
        for part in self.parts:
            if part is not None:
                total = total + part.delta(part.project(x, y + total, state), None)
        return total

    def delta(self, projected: Any, weight: Tensor | None) -> Tensor:
        """Return what is added to the layer's output, times a weight of shape [1] or [..., 1]."""
        if self.combiner.sequential:
            return projected if weight is None else projected * weight
        members, weights = projected
        total: Tensor | None = None
        for index, (part, member) in enumerate(zip(self.parts, members, strict=True)):
            if part is None:
                continue
            own = weights[..., index : index + 1]
            added = part.delta(member, own if weight is None else own * weight)
            total = added if total is None else total + added
        return torch.zeros((), device=weights.device) if total is None else total

    def dot(self, projected: Any, direction: Tensor) -> Tensor:
        """Return the dot product of the delta with a direction, `[batch, length]`."""
        if self.combiner.sequential:
            return (direction * projected).sum(dim=-1)
        members, weights = projected
        total = direction.new_zeros(direction.shape[:-1])
        for index, (part, member) in enumerate(zip(self.parts, members, strict=True)):
            if part is not None:
                total = total + weights[..., index] * part.dot(member, direction)
        return total

    def weight_delta(self) -> Tensor:
        """Return the equivalent update of the layer's weight, `[outputs, inputs]`.

        Raises:
            ValueError: The mixing weights depend on the input, or a member is not linear.
        """
        weights = self.combiner.static_weights().detach()
        total: Any = 0.0
        for part, weight in zip(self.parts, weights, strict=True):
            if part is not None:
                update = part.weight_delta()
                total = total + weight.to(update.device) * update
        return torch.as_tensor(total)
