"""Who holds weights, gradients and optimizer states: one process, DDP, or DeepSpeed's ZeRO.

After accelerate 1.15, torch 2.13 (`DistributedDataParallel`) and deepspeed 0.19.8
(`stage_1_and_2.py`, `stage3.py`), as configured by `training/trainer/deepspeed.py`.
"""

from __future__ import annotations

from itertools import chain

from planning.memory.allocator import SIZE, SimulatedStorage
from planning.memory.autograd import AutogradSimulator, SimulatedParameter, SimulatedTensor
from planning.memory.decoder import Decoder
from planning.memory.optimizers import state_bytes
from planning.memory.parameters import MemoryConfig, all_weights
from planning.memory.zero3_gather import PERSISTS_BELOW, Zero3Gather

SUB_GROUP_ELEMENTS = 1_000_000_000
"""Elements that ZeRO 3 steps at once (`sub_group_size`)."""

_SCORES = 3
"""Numbers in fp32 that AdaLoRA keeps of each weight: what it matters, on average, how surely."""


class ShardingSimulator:
    """One process, or several with DDP: everything whole on every device.

    Args:
        recipe: What is rehearsed.
        tape: Whose meter counts.
        decoder: Its weights are allocated.
    """

    def __init__(self, recipe: MemoryConfig, tape: AutogradSimulator, decoder: Decoder):
        self.recipe = recipe
        self.tape = tape
        self.decoder = decoder
        self.learning = [w for w in all_weights(decoder) if w.learns]
        self.held: list[SimulatedStorage] = []
        self.settle()

    @property
    def autocast(self) -> str | None:
        """What matrix products are cast to while training."""
        return None if self.recipe.precision == "fp32" else self.recipe.precision

    def settle(self) -> None:
        """Allocate what stays from step to step."""
        for weight in self.learning:
            self.hold("optimizer", state_bytes(self.recipe.optimizer, weight.count, weight.width))
        if getattr(self.recipe.adapter, "scored", False):
            pairs = [w for layer in self.decoder.layers for w in chain(*layer.adapters.values())]
            self.hold("optimizer", _SCORES * 4 * sum(weight.count for weight in pairs))
        if self.recipe.world > 1:
            # DDP reduces copies of the gradients (gradient_as_bucket_view is off).
            self.hold("buffers", sum(w.count * SIZE[w.dtype] for w in self.learning))

    def hold(self, part: str, size: int) -> None:
        """Allocate bytes for good."""
        if size:
            with self.tape.meter.belongs_to(part):
                self.held.append(SimulatedStorage(self.tape.meter, size))

    def earlier_micro_batches(self) -> None:
        """Allocate the gradients that are there when a step has several micro-batches."""
        with self.tape.meter.belongs_to("gradients"):
            for weight in self.learning:
                weight.grad = self.tape.new(weight.count, weight.dtype)

    def after_backward(self) -> None:
        """The end of a micro-batch."""

    def step(self) -> None:
        """The optimizer's turn; its kernels work in place."""


class ZeroSimulator(ShardingSimulator):
    """ZeRO 1 and 2: weights whole, optimizer states in shards; with 2, gradients too."""

    _bucket: SimulatedTensor | None = None
    _in_bucket = 0
    _oversized: SimulatedTensor | None = None
    _shard: SimulatedTensor | None = None
    _earlier: SimulatedTensor | None = None

    @property
    def autocast(self) -> str | None:
        """DeepSpeed casts the model instead."""
        return None

    @property
    def _shard_count(self) -> int:
        return -(-sum(w.count for w in self.learning) // self.recipe.world)

    @property
    def _on_host(self) -> bool:
        """Whether the shard's states and gradients rest outside the device."""
        return self.recipe.offload != "none" and self.recipe.device != "cpu"

    def settle(self) -> None:
        """fp32 copies and states of this device's shard, or a way for gradients out of it."""
        for weight in self.learning:
            weight.sink = self._take
        if self._on_host:
            largest = max((w.count for w in self.learning), default=0)
            self.hold("buffers", largest * SIZE[self.recipe.precision])
            return
        self.hold("optimizer", self._shard_count * 4)
        self.hold("optimizer", state_bytes(self.recipe.optimizer, self._shard_count, 0))

    def earlier_micro_batches(self) -> None:
        """Stage 2 keeps the shard's gradients between micro-batches, stage 1 all of them."""
        if self.recipe.zero == 1:
            super().earlier_micro_batches()
            self._open_bucket()  # it stays until the last micro-batch of the step
        elif not self._on_host:
            with self.tape.meter.belongs_to("gradients"):
                self._earlier = self.tape.new(self._shard_count, self.recipe.precision)

    def _take(self, weight: SimulatedParameter, grad: SimulatedTensor) -> None:
        self._open_bucket()
        if self.recipe.zero == 1:
            weight.keep(grad)
        else:
            self._send(grad)

    def _open_bucket(self) -> None:
        if self._bucket is None:
            with self.tape.meter.belongs_to("buffers"):
                self._bucket = self.tape.new(self.recipe.bucket, self.recipe.precision)

    def _send(self, grad: SimulatedTensor) -> None:
        """Copy a gradient into the bucket; one too large for it is sent by itself."""
        if self._in_bucket + grad.count > self.recipe.bucket:
            self._flush()
        if grad.count > self.recipe.bucket:
            self._oversized = grad
        self._in_bucket += grad.count

    def _flush(self) -> None:
        """Reduce what the bucket holds, through a flat copy, and keep this device's share."""
        if not self._in_bucket:
            return
        with self.tape.meter.belongs_to("buffers"):
            flat = self.tape.new(self._in_bucket, self.recipe.precision)
            del flat
        if self._shard is None and not self._on_host:
            with self.tape.meter.belongs_to("gradients"):
                self._shard = self.tape.new(self._shard_count, self.recipe.precision)
        self._oversized = None
        self._in_bucket = 0

    def after_backward(self) -> None:
        """Reduce the rest; add to the shard's earlier gradients."""
        if self.recipe.zero == 1:
            for weight in reversed(self.learning):
                if weight.grad is not None:
                    self._send(weight.grad)
                    weight.grad = None
        self._flush()
        self._bucket = None

    def step(self) -> None:
        """The shard's gradients made flat, then fp32."""
        if self._on_host:
            return
        with self.tape.meter.belongs_to("gradients"):
            self._earlier = None
            flat = self.tape.new(self._shard_count, self.recipe.precision)
            if self.recipe.precision != "fp32":
                flat = self.tape.new(self._shard_count, "fp32")
            self._shard = None
            del flat


class Zero3Simulator(ZeroSimulator):
    """ZeRO 3: weights in shards too, gathered as they are used."""

    def settle(self) -> None:
        """Shards of weights and gradients, and the bucket, stay; small weights stay whole."""
        sharded = [w for w in all_weights(self.decoder) if w.count >= PERSISTS_BELOW]
        for weight in all_weights(self.decoder):
            size = weight.count * SIZE[weight.dtype]
            shard = 0 if self._on_host else -(-size // self.recipe.world)
            self.hold("weights", shard if weight in sharded else size + shard)
            weight.sharded = weight in sharded
            weight.storage = None
        super().settle()
        if not self._on_host:
            self.hold("gradients", self._shard_count * SIZE[self.recipe.precision])
        self._open_bucket()
        self.tape.gate = Zero3Gather(self.tape, self.recipe.ahead, self.recipe.evaluates)

    def earlier_micro_batches(self) -> None:
        """They are added to the shard that is there anyway."""

    def _flush(self) -> None:
        if self._in_bucket:
            with self.tape.meter.belongs_to("buffers"):
                self.tape.new(self._in_bucket, self.recipe.precision)
        self._oversized = None
        self._in_bucket = 0

    def after_backward(self) -> None:
        """Reduce the rest; the bucket stays."""
        self._flush()

    def step(self) -> None:
        """The shard's gradients in fp32, as many at once as `sub_group_size` says."""
        if self._on_host:
            return
        with self.tape.meter.belongs_to("gradients"):
            count = min(self._shard_count, SUB_GROUP_ELEMENTS)
            flat = self.tape.new(count, self.recipe.precision)
            if self.recipe.precision != "fp32":
                flat = self.tape.new(count, "fp32")
            del flat


class FsdpSimulator(ShardingSimulator):
    """FSDP2 (torch `fully_shard`): one group of weights per layer, and one for the rest.

    A layer is whole while it is used; the rest from the forward pass to the end of the backward.
    """

    @property
    def autocast(self) -> str | None:
        """The gathered weights are of the job's precision already."""
        return None

    def settle(self) -> None:
        """Shards of weights and states."""
        world = self.recipe.world
        self._groups: dict[int, int] = {}
        self._count: dict[int, int] = {}
        for index, layer in enumerate(self.decoder.layers):
            for weight in layer.weights():
                self._groups[id(weight)] = index
                self._count[index] = self._count.get(index, 0) + weight.count
        rest = 0
        for weight in all_weights(self.decoder):
            self.hold("weights", -(-weight.count * SIZE[weight.dtype] // world))
            if weight.learns:
                size = state_bytes(self.recipe.optimizer, weight.count, weight.width)
                self.hold("optimizer", -(-size // world))
                weight.sink = self._reduce
            rest += weight.count if id(weight) not in self._groups else 0
            weight.storage, weight.sharded, weight.dtype = None, True, self.recipe.precision
        self._count[_REST] = rest
        self._whole: dict[int, SimulatedStorage] = {}
        self._grads: dict[int, list[SimulatedTensor]] = {}
        groups = [self._groups.get(id(weight), _REST) for weight in self.learning]
        self._learners = {group: groups.count(group) for group in set(groups)}
        self.tape.gate = self

    def earlier_micro_batches(self) -> None:
        """Their gradients are in shards, of the weights' own type."""
        for weight in self.learning:
            self.hold("gradients", -(-weight.count * SIZE["fp32"] // self.recipe.world))

    def enter(self, weight: SimulatedParameter) -> None:
        """Gather the group of a weight, let go of the layer before, fetch the next ahead."""
        group = self._groups.get(id(weight), _REST)
        if group in self._whole:
            return
        for other in [g for g in self._whole if g not in (_REST, group)]:
            del self._whole[other]
        size = self._count[group] * SIZE[self.recipe.precision]
        with self.tape.meter.belongs_to("buffers"):
            flat = SimulatedStorage(self.tape.meter, size)
            self._whole[group] = SimulatedStorage(self.tape.meter, size)
            del flat
            if group != _REST:
                SimulatedStorage(self.tape.meter, size)  # the next layer, on its way

    def leave(self, weight: SimulatedParameter) -> None:
        """Groups are let go of when the next one comes."""

    def gathered(self, weight: SimulatedParameter) -> SimulatedTensor | None:
        """The output embeddings are whole with their group."""
        self.enter(weight)
        return None

    def turn(self) -> None:
        """Nothing is decided here."""

    def replay(self) -> None:
        """What comes next needs no recording."""

    def _reduce(self, weight: SimulatedParameter, grad: SimulatedTensor) -> None:
        """Hold a group's gradients until all are there; then a flat copy is reduced."""
        group = self._groups.get(id(weight), _REST)
        held = self._grads.setdefault(group, [])
        held.append(grad)
        if len(held) < self._learners[group]:
            return
        self._whole.pop(group, None)
        with self.tape.meter.belongs_to("buffers"):
            self.tape.new(sum(g.count for g in held), self.recipe.precision)
        del self._grads[group]

    def after_backward(self) -> None:
        """Let go of everything whole; the shard's gradients stay."""
        self._whole.clear()
        self._grads.clear()
        if not self.recipe.accumulates:
            self.earlier_micro_batches()

    def step(self) -> None:
        """In place, on shards."""


_REST = -1
