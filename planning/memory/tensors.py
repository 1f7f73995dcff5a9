"""Tensors and parameters that have a size and no data, and the nodes of their autograd graph."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from planning.memory.allocator import SimulatedStorage

Grads = tuple["SimulatedTensor | None", ...]
"""Result of a backward function: one gradient per input, None for an input that needs none."""


class AutogradNode:
    """Recorded operation, like a `torch.autograd.graph.Node`.

    Attributes:
        backward_fn: Returns the gradients of the inputs, given that of the output and the saved
            tensors; None once it has run, when PyTorch frees the saved tensors as well.
        inputs: Nodes (or parameters) that produced the inputs; None for inputs without gradient.
        saved: Tensors saved for the backward pass, or placeholders if they will be recomputed.
        number: Sequence number; the engine runs nodes with higher numbers first.
    """

    __slots__ = ("__weakref__", "backward_fn", "inputs", "number", "saved")

    def __init__(
        self,
        number: int,
        backward_fn: Callable[..., Grads],
        inputs: tuple[Any, ...],
        saved: list[Any],
    ):
        self.number = number
        self.backward_fn: Callable[..., Grads] | None = backward_fn
        self.inputs = inputs
        self.saved = saved


class SimulatedTensor:
    """Tensor without data: element count, data type, storage, and the node that produced it.

    Views share a storage. `node` is None if no gradient flows through the tensor.
    """

    __slots__ = ("count", "dtype", "node", "storage")

    def __init__(self, count: int, dtype: str, storage: SimulatedStorage | None, node: Any = None):
        self.count = count
        self.dtype = dtype
        self.storage = storage
        self.node = node


@dataclass(eq=False)
class SimulatedParameter:
    """Parameter of the model; as a leaf of the graph, it is the last node on its path.

    Attributes:
        count: Number of elements.
        dtype: Data type in memory.
        requires_grad: True if it is trained.
        width: Columns of a matrix; 0 for a vector.
        sharded: True if this device holds a shard only; the parameter then has no storage.
        storage: Allocation that holds it.
        grad: Gradient, accumulated over micro-batches.
        sink: Receives the gradient in place of `grad`, as the hooks of ZeRO and FSDP do.
        number: Sequence number; the highest, so that the engine accumulates a gradient at once.
    """

    count: int
    dtype: str
    requires_grad: bool = True
    width: int = 0
    sharded: bool = False
    storage: SimulatedStorage | None = None
    grad: SimulatedTensor | None = None
    sink: Callable[[SimulatedParameter, SimulatedTensor], None] | None = None
    number: int = field(default=sys.maxsize)

    def accumulate(self, grad: SimulatedTensor) -> None:
        """Pass a gradient to the sink if there is one, else add it to `grad`."""
        if self.sink is not None:
            self.sink(self, grad)
        else:
            self.store_grad(grad)

    def store_grad(self, grad: SimulatedTensor) -> None:
        """Add a gradient to `grad`.

        The first is kept without a copy, as PyTorch's `AccumulateGrad` does; later ones are added
        in place and allocate nothing.
        """
        if self.grad is None:
            assert grad.storage is not None
            grad.storage.recount_as("gradients")
            self.grad = grad
