"""What a composed layer is made of: a tree whose leaves are adapters.

Every part first says what it has to say of an input, and is then told how much that counts. Between
the two, a way of meeting may look at what was said (`agree`). What LoRA says is as narrow as its
rank, so that nothing as wide as the layer is kept for each member.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from training.adapters.composition.combiners.base import Combiner, CombinerInput, ForwardState
from training.adapters.custom_tuner import ACTIVATIONS


class LowRankModule(nn.Module):
    """A LoRA member: d(x) = B A x, its scaling in B."""

    def __init__(self, inputs: int, outputs: int, r: int):
        super().__init__()
        self.down = nn.Parameter(torch.zeros(r, inputs))
        self.up = nn.Parameter(torch.zeros(outputs, r))

    def speak(self, x: Tensor, y: Tensor, under_way: ForwardState) -> Tensor:
        """Return A x, [..., r]."""
        return nn.functional.linear(x.to(self.down.dtype), self.down)

    def change(self, said: Tensor, share: Tensor | None) -> Tensor:
        """Return what is added to the layer; a share is [1] or [..., 1]."""
        # A share may be in fp32 where the rest is not.
        weighed = said if share is None else (said * share).to(self.up.dtype)
        return nn.functional.linear(weighed, self.up)

    def agree(self, said: Tensor, direction: Tensor) -> Tensor:
        """Return the product of what is added with a direction, [...]."""
        return ((direction.to(self.up.dtype) @ self.up) * said).sum(dim=-1)

    def weights(self) -> Tensor:
        """Return the change of weights that it is, [outputs, inputs]."""
        return self.up.data @ self.down.data


class BottleneckModule(nn.Module):
    """A bottleneck: d(x, y) = s (U a(D z + b) + c), where z is y or x."""

    def __init__(self, width: int, about: dict[str, Any]):
        super().__init__()
        self.down = nn.Linear(width, about["size"])
        self.up = nn.Linear(about["size"], width)
        self.activation = ACTIVATIONS[about["activation"]]()
        self.scaling = float(about["scaling"])
        self.sequential = about["placement"] == "sequential"

    def speak(self, x: Tensor, y: Tensor, under_way: ForwardState) -> Tensor:
        """Return s a(D z + b), [..., size]."""
        read = y if self.sequential else x
        said: Tensor = self.activation(self.down(read.to(self.down.weight.dtype)))
        return self.scaling * said

    def change(self, said: Tensor, share: Tensor | None) -> Tensor:
        """Return what is added to the sublayer; a share is [1] or [..., 1]."""
        if share is None:
            return nn.functional.linear(said, self.up.weight) + self.scaling * self.up.bias
        bias = share * (self.scaling * self.up.bias)
        weighed = (said * share).to(self.up.weight.dtype)
        return nn.functional.linear(weighed, self.up.weight) + bias

    def agree(self, said: Tensor, direction: Tensor) -> Tensor:
        """Return the product of what is added with a direction, [...]."""
        direction = direction.to(self.up.weight.dtype)
        along = ((direction @ self.up.weight) * said).sum(dim=-1)
        return along + direction @ (self.scaling * self.up.bias)

    def weights(self) -> Tensor:
        """Refuse.

        Raises:
            ValueError: Always.
        """
        raise ValueError("a bottleneck is not linear")


Part = Any
"""A leaf or a `Node`; None for a leaf that is not on this layer."""


class CompositionNode:
    """Parts that meet; a leaf that is not on this layer is None and adds nothing.

    Args:
        way: How they meet.
        parts: Members, in order.
    """

    def __init__(self, way: Combiner, parts: Sequence[Part]):
        self.way = way
        self.parts = tuple(parts)

    def speak(self, x: Tensor, y: Tensor, under_way: ForwardState) -> Any:
        """Return what the members say, and how much each of them counts."""
        if self.way.in_turn:
            return self._in_turn(x, y, under_way)
        said = [part and part.speak(x, y, under_way) for part in self.parts]

        def agree(direction: Tensor) -> Tensor:
            found = [
                direction.new_zeros(direction.shape[:-1]) if part is None
                else part.agree(one, direction)
                for part, one in zip(self.parts, said, strict=True)
            ]  # fmt: skip
            return torch.stack(found, dim=-1)

        return said, self.way.shares(CombinerInput(x, y, agree, under_way))

    def _in_turn(self, x: Tensor, y: Tensor, under_way: ForwardState) -> Tensor:
        """Return what all members together add, each reading what those before it made of y."""
        total = torch.zeros((), device=y.device)
        for part in self.parts:
            if part is not None:
                total = total + part.change(part.speak(x, y + total, under_way), None)
        return total

    def change(self, said: Any, share: Tensor | None) -> Tensor:
        """Return what is added to the layer; a share is [1] or [..., 1]."""
        if self.way.in_turn:
            return said if share is None else said * share
        spoken, shares = said
        total: Tensor | None = None
        for index, (part, one) in enumerate(zip(self.parts, spoken, strict=True)):
            if part is None:
                continue
            own = shares[..., index : index + 1]
            added = part.change(one, own if share is None else own * share)
            total = added if total is None else total + added
        return torch.zeros((), device=shares.device) if total is None else total

    def agree(self, said: Any, direction: Tensor) -> Tensor:
        """Return the product of what is added with a direction, [...]."""
        if self.way.in_turn:
            return (direction * said).sum(dim=-1)
        spoken, shares = said
        total = direction.new_zeros(direction.shape[:-1])
        for index, (part, one) in enumerate(zip(self.parts, spoken, strict=True)):
            if part is not None:
                total = total + shares[..., index] * part.agree(one, direction)
        return total

    def weights(self) -> Tensor:
        """Return the change of weights that all together are, [outputs, inputs].

        Raises:
            ValueError: The input decides.
        """
        shares = self.way.fixed_shares().detach()
        total: Any = 0.0
        for part, share in zip(self.parts, shares, strict=True):
            if part is not None:
                change = part.weights()
                total = total + share.to(change.device) * change
        return torch.as_tensor(total)
