"""PyTorch's autograd on tensors without data: which tensors live, and until when.

A training step is written out operation by operation as the libraries write it (`decoder.py`,
`losses.py`). Three things then decide the peak, as in PyTorch: references keep a tensor alive,
each operation saves tensors for its backward pass, and the engine runs nodes in the order of their
sequence numbers (`torch/csrc/autograd/engine.cpp`).

CPython frees an object when its last reference goes, exactly as PyTorch frees a tensor. Local
variables in this package therefore live as long as the variables of the code that they model: a
`del` in it is part of the model, and an additional local variable would change the result.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from planning.memory.allocator import SIZE, AllocatorSimulator, SimulatedStorage
from planning.memory.recompute import CheckpointFrame, RecomputedTensor
from planning.memory.tensors import AutogradNode, Grads, SimulatedParameter, SimulatedTensor

_UNSHARED_REFERENCES = 2
"""`sys.getrefcount` of a gradient that only the engine's buffer refers to."""


class GatherHook(Protocol):
    """Interface of an engine that gathers sharded weights around the modules that use them."""

    def fetch(self, weight: SimulatedParameter) -> None:
        """Gather a weight before its module runs (DeepSpeed's `fetch_sub_module`)."""

    def release(self, weight: SimulatedParameter) -> None:
        """Free a gathered weight after its module has run, unless it is needed again soon."""

    def gathered(self, weight: SimulatedParameter) -> SimulatedTensor | None:
        """Gather a weight outside a module, as `deepspeed.zero.GatheredParameters` does.

        The weight stays gathered until the caller drops the result.
        """

    def end_forward(self) -> None:
        """Mark the end of the forward pass."""

    def set_trace(self) -> None:
        """Use the weights fetched so far as the trace of every following pass."""


class AutogradSimulator:
    """Allocator of tensors that records operations and runs the backward pass over them.

    Args:
        allocator: Counts the bytes.
        device: `cuda`, `neuron` or `cpu`; their kernels differ in what they allocate.
        autocast: Data type of matrix products if autocast is on.
    """

    def __init__(self, allocator: AllocatorSimulator, device: str, autocast: str | None = None):
        self.allocator = allocator
        self.device = device
        self.autocast = autocast
        self.grad_enabled = True
        self.pack_hook: Callable[[SimulatedTensor], Any] = _identity
        self.gather_hook: GatherHook | None = None
        self._number = 0
        self._casts: dict[int, SimulatedTensor] | None = None

    # --- forward -----------------------------------------------------------------------------

    def new(self, count: int, dtype: str) -> SimulatedTensor:
        """Return a tensor with an allocation of its own, like `torch.empty`."""
        return SimulatedTensor(count, dtype, SimulatedStorage(self.allocator, count * SIZE[dtype]))

    def record_op(
        self,
        output: SimulatedTensor,
        inputs: tuple[SimulatedTensor, ...],
        backward_fn: Callable[..., Grads],
        *saved: SimulatedTensor,
    ) -> SimulatedTensor:
        """Add an operation to the graph if one of its inputs needs a gradient.

        Args:
            output: Result of the operation.
            inputs: Its inputs, in the order of the gradients that `backward_fn` returns.
            backward_fn: Called with the gradient of the output and the saved tensors.
            saved: Tensors that the operation saves for its backward pass.

        Returns:
            The output, now with its node.
        """
        if self.needs_grad(*inputs):
            self._number += 1
            nodes = tuple(i.node for i in inputs)
            output.node = AutogradNode(
                self._number, backward_fn, nodes, [self.pack_hook(tensor) for tensor in saved]
            )
        return output

    def record_peak_at(self, x: SimulatedTensor, name: str) -> SimulatedTensor:
        """Return a view of `x` at which the backward pass ends a phase called `name`."""
        allocator = self.allocator

        def backward(g: SimulatedTensor) -> Grads:
            allocator.record_peak(name)
            return (g,)

        return self.record_op(SimulatedTensor(x.count, x.dtype, x.storage), (x,), backward)

    def needs_grad(self, *inputs: SimulatedTensor) -> bool:
        """Return True if gradients are enabled and one of the inputs needs one."""
        return self.grad_enabled and any(i.node is not None for i in inputs)

    @contextmanager
    def gathered_weight(self, weight: SimulatedParameter) -> Iterator[None]:
        """Keep a sharded weight gathered inside the context."""
        if self.gather_hook is None or not weight.sharded:
            yield
            return
        self.gather_hook.fetch(weight)
        yield
        self.gather_hook.release(weight)

    # --- autocast ----------------------------------------------------------------------------

    @contextmanager
    def autocasting(self) -> Iterator[None]:
        """Cache the casts of weights until the outermost context ends, as `torch.autocast` does."""
        outer, self._casts = self._casts, {} if self._casts is None else self._casts
        try:
            yield
        finally:
            self._casts = outer

    def cast_once(
        self, weight: SimulatedParameter, make: Callable[[], SimulatedTensor]
    ) -> SimulatedTensor:
        """Return the cached cast of a weight, or make it.

        Autocast caches casts of trainable fp32 leaves only (`cached_cast` in
        `aten/src/ATen/autocast_mode.cpp`).
        """
        if self._casts is None or not (weight.requires_grad and weight.dtype == "fp32"):
            return make()
        if id(weight) not in self._casts:
            self._casts[id(weight)] = make()
        return self._casts[id(weight)]

    # --- backward ----------------------------------------------------------------------------

    def checkpoint(
        self, function: Callable[[SimulatedTensor], SimulatedTensor], x: SimulatedTensor
    ) -> SimulatedTensor:
        """Run a block without its saved tensors, which the backward pass recomputes.

        The nodes of the block stay in the graph; the first that needs a saved tensor recomputes
        them all.
        """
        if not self.grad_enabled:
            return function(x)
        frame = CheckpointFrame(self, lambda: function(x))
        outer, self.pack_hook = self.pack_hook, frame.pack
        try:
            return function(x)
        finally:
            self.pack_hook = outer

    def backward(self, root: SimulatedTensor, grad: SimulatedTensor) -> None:
        """Run the backward pass from `root`, freeing what each node saved once it has run.

        Every `del` below drops a reference at the point at which PyTorch's engine does.
        """
        first = root.node
        root.node = None
        waiting = _num_gradients(first)
        grads: dict[int, SimulatedTensor] = {id(first): grad}
        del grad
        ready: list[tuple[int, int, Any]] = [(-first.number, 0, first)]
        order = 0
        del first
        while ready:
            node = heapq.heappop(ready)[2]
            incoming = grads.pop(id(node))
            if isinstance(node, SimulatedParameter):
                node.accumulate(incoming)
                del incoming
                continue
            placeholder = node.saved[0] if node.saved else None
            if isinstance(placeholder, RecomputedTensor) and not placeholder.frame.computed:
                placeholder.frame.recompute()
            del placeholder
            saved = [s.unpack() if isinstance(s, RecomputedTensor) else s for s in node.saved]
            assert node.backward_fn is not None, "a graph runs backward once"
            outgoing = list(node.backward_fn(incoming, *saved))
            sources = node.inputs
            if node.saved:
                # A node that saved nothing may run again, as in PyTorch: the cached cast of the
                # head belongs to the graphs of all tiles of a distillation loss.
                node.backward_fn, node.saved, node.inputs = None, [], ()
            del incoming, saved
            for position, source in enumerate(sources):
                made, outgoing[position] = outgoing[position], None
                if source is None:
                    continue
                if made is not None:
                    self._accumulate(grads, id(source), made)
                    del made
                waiting[id(source)] -= 1
                if not waiting[id(source)] and id(source) in grads:
                    order += 1
                    heapq.heappush(ready, (-source.number, order, source))
            del sources

    def _accumulate(
        self, grads: dict[int, SimulatedTensor], key: int, made: SimulatedTensor
    ) -> None:
        """Add a gradient to the engine's input buffer.

        The sum is made in place, unless another reference to the buffered gradient exists
        (`torch/csrc/autograd/input_buffer.cpp`).
        """
        if key not in grads:
            grads[key] = made
        elif sys.getrefcount(grads[key]) > _UNSHARED_REFERENCES:
            grads[key] = self.new(made.count, made.dtype)


def _identity(tensor: SimulatedTensor) -> Any:
    return tensor


def _num_gradients(first: AutogradNode) -> dict[int, int]:
    """Return how many gradients each node receives, by the identity of the node."""
    counts: dict[int, int] = {id(first): 0}
    stack: list[Any] = [first]
    while stack:
        node = stack.pop()
        if isinstance(node, SimulatedParameter):
            continue
        for source in node.inputs:
            if source is None:
                continue
            if id(source) not in counts:
                counts[id(source)] = 0
                stack.append(source)
            counts[id(source)] += 1
    return counts
