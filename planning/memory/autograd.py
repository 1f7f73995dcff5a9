"""A rehearsal of PyTorch's memory: tensors without numbers, and the autograd that keeps them.

A step of training is written out as the libraries write it (`decoder.py`, `head.py`), on tensors
that have a size and nothing else. What lives, and until when, is then decided as PyTorch decides
it: by who still refers to a tensor, by what each operation keeps for its backward pass, and by the
order in which autograd runs. The most that was ever alive at once is the peak.

Python frees an object when its last reference goes, as PyTorch frees a tensor; so a local variable
here lives exactly as long as the one it stands for.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from planning.memory.allocator import SIZE, AllocatorSimulator, SimulatedStorage

Grads = tuple["SimulatedTensor | None", ...]
"""What a backward function returns: one for each input, None where none is asked for."""

_STEAL = 3
"""References to a tensor that only the engine holds: the queue's, a variable, and the question."""


class AutogradNode:
    """What autograd remembers of one operation.

    Attributes:
        back: Returns the gradients of the inputs, given that of the output and what was kept.
        inputs: The nodes that made the inputs; None where no gradient is asked for.
        kept: Tensors kept for the backward pass, or what can bring them back.
        number: Later operations have higher numbers and go first in the backward pass.
    """

    __slots__ = ("__weakref__", "back", "inputs", "kept", "number")

    def __init__(
        self,
        number: int,
        back: Callable[..., Grads],
        inputs: tuple[Any, ...],
        kept: list[Any],
    ):
        self.number = number
        self.back: Callable[..., Grads] | None = back
        self.inputs = inputs
        self.kept = kept


class SimulatedTensor:
    """A tensor: how many elements of which type, where its bytes are, and what made it."""

    __slots__ = ("count", "dtype", "node", "storage")

    def __init__(self, count: int, dtype: str, storage: SimulatedStorage | None, node: Any = None):
        self.count = count
        self.dtype = dtype
        self.storage = storage
        self.node = node


@dataclass(eq=False)
class SimulatedParameter:
    """A parameter of the model.

    Attributes:
        count: Elements.
        dtype: As it lies in memory.
        learns: Whether it is trained.
        sharded: Whether only a shard of it is here; it has no storage of its own then.
        storage: Where it lies.
        grad: Accumulated over micro-batches.
        sink: Takes its gradient in place of `grad`: an engine that shards or sends gradients.
        width: Of a matrix's rows; 0 for a vector.
    """

    count: int
    dtype: str
    learns: bool = True
    width: int = 0
    sharded: bool = False
    storage: SimulatedStorage | None = None
    grad: SimulatedTensor | None = None
    sink: Callable[[SimulatedParameter, SimulatedTensor], None] | None = None
    number: int = field(default=sys.maxsize)

    def accumulate(self, grad: SimulatedTensor) -> None:
        """Take a gradient: an engine does as it likes with it, else it is kept."""
        if self.sink is not None:
            self.sink(self, grad)
        else:
            self.keep(grad)

    def keep(self, grad: SimulatedTensor) -> None:
        """Keep the first gradient as it is; later ones are added in place."""
        if self.grad is None:
            assert grad.storage is not None
            grad.storage.becomes("gradients")
            self.grad = grad


class GatherHook(Protocol):
    """Makes the shards of a weight whole while a module needs it."""

    def enter(self, weight: SimulatedParameter) -> None:
        """A module is about to use its weight."""

    def leave(self, weight: SimulatedParameter) -> None:
        """A module has used its weight."""

    def gathered(self, weight: SimulatedParameter) -> SimulatedTensor | None:
        """The weight made whole by hand, until the result is let go of."""

    def turn(self) -> None:
        """The forward pass is over."""

    def replay(self) -> None:
        """From here on it is known what comes next."""


class _RecomputeDone(Exception):  # noqa: N818 (a signal within a recomputation, as PyTorch has it)
    """Everything that was asked for has been computed again."""


class _Frame:
    """A block whose intermediate results are computed again in the backward pass."""

    def __init__(self, tape: AutogradSimulator, function: Callable[[], SimulatedTensor]):
        self.tape = tape
        self.function = function
        self.asked = 0
        self.found: dict[int, SimulatedTensor] = {}
        self.computed = False

    def keep(self, tensor: SimulatedTensor) -> Any:
        """Keep nothing but the order of asking."""
        self.asked += 1
        return _Again(self, self.asked - 1)

    def compute(self) -> None:
        """Run the block once more, up to the last tensor that was asked for."""
        self.computed = True
        tape, count = self.tape, 0

        def note(tensor: SimulatedTensor) -> Any:
            nonlocal count
            if count in wanted:
                self.found[count] = tensor
            count += 1
            if count == self.asked:
                raise _RecomputeDone
            return tensor

        wanted = range(self.asked)
        keep, tape.keep = tape.keep, note
        try:
            with tape.autocast_again():
                self.function()
        except _RecomputeDone:
            pass
        finally:
            tape.keep = keep


class _Again:
    """Stands for a tensor that will be computed again; lets go of it when it goes itself."""

    __slots__ = ("frame", "index")

    def __init__(self, frame: _Frame, index: int):
        self.frame = frame
        self.index = index

    def __del__(self) -> None:
        self.frame.found.pop(self.index, None)


class AutogradSimulator:
    """Allocates tensors, records operations, and plays them backward.

    Args:
        meter: Counts.
        device: `cuda`, `neuron` or `cpu`: their kernels differ in what they allocate.
        autocast: Type that matrix products are computed in, where autocast is on.
    """

    def __init__(self, meter: AllocatorSimulator, device: str, autocast: str | None = None):
        self.meter = meter
        self.device = device
        self.autocast = autocast
        self.grad_enabled = True
        self.keep: Callable[[SimulatedTensor], Any] = _as_it_is
        self.gate: GatherHook | None = None
        self._number = 0
        self._casts: dict[int, SimulatedTensor] | None = None

    # --- making ------------------------------------------------------------------------------

    def new(self, count: int, dtype: str) -> SimulatedTensor:
        """A tensor of its own bytes."""
        return SimulatedTensor(count, dtype, SimulatedStorage(self.meter, count * SIZE[dtype]))

    def record(
        self,
        output: SimulatedTensor,
        inputs: tuple[SimulatedTensor, ...],
        back: Callable[..., Grads],
        *kept: SimulatedTensor,
    ) -> SimulatedTensor:
        """Remember an operation where a gradient will be asked for, and return its output.

        Args:
            output: What it made.
            inputs: What it was made from.
            back: Called with the output's gradient and what was kept.
            kept: Needed by `back`.
        """
        if self.needs_grad(*inputs):
            self._number += 1
            nodes = tuple(i.node for i in inputs)
            output.node = AutogradNode(
                self._number, back, nodes, [self.keep(tensor) for tensor in kept]
            )
        return output

    def milestone(self, x: SimulatedTensor, name: str) -> SimulatedTensor:
        """Name the moment at which the backward pass comes by."""
        meter = self.meter

        def back(g: SimulatedTensor) -> Grads:
            meter.moment(name)
            return (g,)

        return self.record(SimulatedTensor(x.count, x.dtype, x.storage), (x,), back)

    def needs_grad(self, *inputs: SimulatedTensor) -> bool:
        """Whether any of these leads to something that learns."""
        return self.grad_enabled and any(i.node is not None for i in inputs)

    # --- types -------------------------------------------------------------------------------

    @contextmanager
    def using(self, weight: SimulatedParameter) -> Iterator[None]:
        """Have a weight whole meanwhile."""
        if self.gate is None or not weight.sharded:
            yield
            return
        self.gate.enter(weight)
        yield
        self.gate.leave(weight)

    @contextmanager
    def autocasting(self) -> Iterator[None]:
        """Cast matrix products, each learning fp32 weight once, until the outermost end."""
        outer, self._casts = self._casts, {} if self._casts is None else self._casts
        try:
            yield
        finally:
            self._casts = outer

    @contextmanager
    def autocast_again(self) -> Iterator[None]:
        """Restore for a recomputation what was on when the block first ran."""
        with self.autocasting():
            yield

    def cast_once(
        self, weight: SimulatedParameter, make: Callable[[], SimulatedTensor]
    ) -> SimulatedTensor:
        """The cast of a weight, made once where autocast remembers it."""
        if self._casts is None or not (weight.learns and weight.dtype == "fp32"):
            return make()
        if id(weight) not in self._casts:
            self._casts[id(weight)] = make()
        return self._casts[id(weight)]

    # --- going back --------------------------------------------------------------------------

    def checkpoint(
        self, function: Callable[[SimulatedTensor], SimulatedTensor], x: SimulatedTensor
    ) -> SimulatedTensor:
        """Run a block without keeping what its backward pass needs (torch.utils.checkpoint).

        The block's nodes stay; the first of them to be asked runs the block again.
        """
        if not self.grad_enabled:
            return function(x)
        frame = _Frame(self, lambda: function(x))
        keep, self.keep = self.keep, frame.keep
        try:
            return function(x)
        finally:
            self.keep = keep

    def backward(self, root: SimulatedTensor, grad: SimulatedTensor) -> None:
        """Run the backward pass from `root`, freeing what each operation kept once it has run."""
        first = root.node
        root.node = None
        waiting = _dependencies(first)
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
            if node.kept and isinstance(node.kept[0], _Again) and not node.kept[0].frame.computed:
                node.kept[0].frame.compute()
            kept = [k.frame.found[k.index] if isinstance(k, _Again) else k for k in node.kept]
            assert node.back is not None, "a graph is played once"
            outgoing = list(node.back(incoming, *kept))
            sources = node.inputs
            if node.kept:
                # What kept nothing may be played again, as the cast that autocast remembers is.
                node.back, node.kept, node.inputs = None, [], ()
            del incoming, kept
            for position, source in enumerate(sources):
                made, outgoing[position] = outgoing[position], None
                if source is None:
                    continue
                if made is not None:
                    self._add(grads, id(source), made)
                    del made
                waiting[id(source)] -= 1
                if not waiting[id(source)] and id(source) in grads:
                    order += 1
                    heapq.heappush(ready, (-source.number, order, source))
            del sources

    def _add(self, grads: dict[int, SimulatedTensor], key: int, made: SimulatedTensor) -> None:
        """Add to what was sent already: in place, unless somebody else still refers to that."""
        if key not in grads:
            grads[key] = made
        elif sys.getrefcount(grads[key]) > _STEAL - 1:
            grads[key] = self.new(made.count, made.dtype)


def _as_it_is(tensor: SimulatedTensor) -> Any:
    return tensor


def _dependencies(first: AutogradNode) -> dict[int, int]:
    """How many gradients each node will be sent."""
    found: dict[int, int] = {id(first): 0}
    stack: list[Any] = [first]
    while stack:
        node = stack.pop()
        if isinstance(node, SimulatedParameter):
            continue
        for source in node.inputs:
            if source is None:
                continue
            if id(source) not in found:
                found[id(source)] = 0
                stack.append(source)
            found[id(source)] += 1
    return found
