"""Who holds weights, gradients and optimizer states: one process, DDP, or DeepSpeed's ZeRO.

After accelerate 1.15, torch 2.13 (`DistributedDataParallel`) and deepspeed 0.19.8
(`stage_1_and_2.py`, `stage3.py`), as configured by `training/trainer/deepspeed.py`.
"""

from __future__ import annotations

from itertools import chain

from planning.memory.allocator import SIZE, SimulatedStorage
from planning.memory.autograd import AutogradSimulator
from planning.memory.decoder import Decoder
from planning.memory.optimizers import state_bytes
from planning.memory.parameters import MemoryConfig, all_weights
from planning.memory.tensors import SimulatedParameter, SimulatedTensor
from planning.memory.zero3_gather import PERSISTS_BELOW, Zero3Gather

SUB_GROUP_ELEMENTS = 1_000_000_000
"""Elements that ZeRO 3 steps at once (`sub_group_size`)."""

_SCORES = 3
"""Numbers in fp32 that AdaLoRA keeps of each weight: what it matters, on average, how surely."""


class ShardingSimulator:
    """One process, or several with DDP: everything whole on every device.

    Args:
        config: What is rehearsed.
        tape: Whose allocator counts.
        decoder: Its weights are allocated.
    """

    def __init__(self, config: MemoryConfig, tape: AutogradSimulator, decoder: Decoder):
        self.config = config
        self.tape = tape
        self.decoder = decoder
        self.trainable = [w for w in all_weights(decoder) if w.requires_grad]
        self.held: list[SimulatedStorage] = []
        self.init_state()

    @property
    def autocast(self) -> str | None:
        """What matrix products are cast to while training."""
        return None if self.config.precision == "fp32" else self.config.precision

    def init_state(self) -> None:
        """Allocate what stays from step to step."""
        for weight in self.trainable:
            self.hold("optimizer", state_bytes(self.config.optimizer, weight.count, weight.width))
        if getattr(self.config.adapter, "scored", False):
            pairs = [w for layer in self.decoder.layers for w in chain(*layer.adapters.values())]
            self.hold("optimizer", _SCORES * 4 * sum(weight.count for weight in pairs))
        if self.config.world > 1:
            # DDP reduces copies of the gradients (gradient_as_bucket_view is off).
            self.hold("buffers", sum(w.count * SIZE[w.dtype] for w in self.trainable))

    def hold(self, part: str, size: int) -> None:
        """Allocate bytes for good."""
        if size:
            with self.tape.allocator.counted_as(part):
                self.held.append(SimulatedStorage(self.tape.allocator, size))

    def earlier_micro_batches(self) -> None:
        """Allocate the gradients that are there when a step has several micro-batches."""
        with self.tape.allocator.counted_as("gradients"):
            for weight in self.trainable:
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
        return -(-sum(w.count for w in self.trainable) // self.config.world)

    @property
    def _on_host(self) -> bool:
        """Whether the shard's states and gradients rest outside the device."""
        return self.config.offload != "none" and self.config.device != "cpu"

    def init_state(self) -> None:
        """fp32 copies and states of this device's shard, or a way for gradients out of it."""
        for weight in self.trainable:
            weight.sink = self._take
        if self._on_host:
            largest = max((w.count for w in self.trainable), default=0)
            self.hold("buffers", largest * SIZE[self.config.precision])
            return
        self.hold("optimizer", self._shard_count * 4)
        self.hold("optimizer", state_bytes(self.config.optimizer, self._shard_count, 0))

    def earlier_micro_batches(self) -> None:
        """Stage 2 keeps the shard's gradients between micro-batches, stage 1 all of them."""
        if self.config.zero == 1:
            super().earlier_micro_batches()
            self._open_bucket()  # it stays until the last micro-batch of the step
        elif not self._on_host:
            with self.tape.allocator.counted_as("gradients"):
                self._earlier = self.tape.new(self._shard_count, self.config.precision)

    def _take(self, weight: SimulatedParameter, grad: SimulatedTensor) -> None:
        self._open_bucket()
        if self.config.zero == 1:
            weight.store_grad(grad)
        else:
            self._send(grad)

    def _open_bucket(self) -> None:
        if self._bucket is None:
            with self.tape.allocator.counted_as("buffers"):
                self._bucket = self.tape.new(self.config.bucket, self.config.precision)

    def _send(self, grad: SimulatedTensor) -> None:
        """Copy a gradient into the bucket; one too large for it is sent by itself."""
        if self._in_bucket + grad.count > self.config.bucket:
            self._flush()
        if grad.count > self.config.bucket:
            self._oversized = grad
        self._in_bucket += grad.count

    def _flush(self) -> None:
        """Reduce what the bucket holds, through a flat copy, and keep this device's share."""
        if not self._in_bucket:
            return
        with self.tape.allocator.counted_as("buffers"):
            flat = self.tape.new(self._in_bucket, self.config.precision)
            del flat
        if self._shard is None and not self._on_host:
            with self.tape.allocator.counted_as("gradients"):
                self._shard = self.tape.new(self._shard_count, self.config.precision)
        self._oversized = None
        self._in_bucket = 0

    def after_backward(self) -> None:
        """Reduce the rest; add to the shard's earlier gradients."""
        if self.config.zero == 1:
            for weight in reversed(self.trainable):
                if weight.grad is not None:
                    self._send(weight.grad)
                    weight.grad = None
        self._flush()
        self._bucket = None

    def step(self) -> None:
        """The shard's gradients made flat, then fp32."""
        if self._on_host:
            return
        with self.tape.allocator.counted_as("gradients"):
            self._earlier = None
            flat = self.tape.new(self._shard_count, self.config.precision)
            if self.config.precision != "fp32":
                flat = self.tape.new(self._shard_count, "fp32")
            self._shard = None
            del flat


class Zero3Simulator(ZeroSimulator):
    """ZeRO 3: weights in shards too, gathered as they are used."""

    def init_state(self) -> None:
        """Shards of weights and gradients, and the bucket, stay; small weights stay whole."""
        sharded = [w for w in all_weights(self.decoder) if w.count >= PERSISTS_BELOW]
        for weight in all_weights(self.decoder):
            size = weight.count * SIZE[weight.dtype]
            shard = 0 if self._on_host else -(-size // self.config.world)
            self.hold("weights", shard if weight in sharded else size + shard)
            weight.sharded = weight in sharded
            weight.storage = None
        super().init_state()
        if not self._on_host:
            self.hold("gradients", self._shard_count * SIZE[self.config.precision])
        self._open_bucket()
        self.tape.gather_hook = Zero3Gather(self.tape, self.config.ahead, self.config.evaluates)

    def earlier_micro_batches(self) -> None:
        """They are added to the shard that is there anyway."""

    def _flush(self) -> None:
        if self._in_bucket:
            with self.tape.allocator.counted_as("buffers"):
                self.tape.new(self._in_bucket, self.config.precision)
        self._oversized = None
        self._in_bucket = 0

    def after_backward(self) -> None:
        """Reduce the rest; the bucket stays."""
        self._flush()

    def step(self) -> None:
        """The shard's gradients in fp32, as many at once as `sub_group_size` says."""
        if self._on_host:
            return
        with self.tape.allocator.counted_as("gradients"):
            count = min(self._shard_count, SUB_GROUP_ELEMENTS)
            flat = self.tape.new(count, self.config.precision)
            if self.config.precision != "fp32":
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

    def init_state(self) -> None:
        """Shards of weights and states."""
        world = self.config.world
        self._groups: dict[int, int] = {}
        self._count: dict[int, int] = {}
        for index, layer in enumerate(self.decoder.layers):
            for weight in layer.weights():
                self._groups[id(weight)] = index
                self._count[index] = self._count.get(index, 0) + weight.count
        rest = 0
        for weight in all_weights(self.decoder):
            self.hold("weights", -(-weight.count * SIZE[weight.dtype] // world))
            if weight.requires_grad:
                size = state_bytes(self.config.optimizer, weight.count, weight.width)
                self.hold("optimizer", -(-size // world))
                weight.sink = self._reduce
            rest += weight.count if id(weight) not in self._groups else 0
            weight.storage, weight.sharded, weight.dtype = None, True, self.config.precision
        self._count[_REST] = rest
        self._whole: dict[int, SimulatedStorage] = {}
        self._grads: dict[int, list[SimulatedTensor]] = {}
        groups = [self._groups.get(id(weight), _REST) for weight in self.trainable]
        self._learners = {group: groups.count(group) for group in set(groups)}
        self.tape.gather_hook = self

    def earlier_micro_batches(self) -> None:
        """Their gradients are in shards, of the weights' own type."""
        for weight in self.trainable:
            self.hold("gradients", -(-weight.count * SIZE["fp32"] // self.config.world))

    def fetch(self, weight: SimulatedParameter) -> None:
        """Gather the group of a weight, let go of the layer before, fetch the next ahead."""
        group = self._groups.get(id(weight), _REST)
        if group in self._whole:
            return
        for other in [g for g in self._whole if g not in (_REST, group)]:
            del self._whole[other]
        size = self._count[group] * SIZE[self.config.precision]
        with self.tape.allocator.counted_as("buffers"):
            flat = SimulatedStorage(self.tape.allocator, size)
            self._whole[group] = SimulatedStorage(self.tape.allocator, size)
            del flat
            if group != _REST:
                SimulatedStorage(self.tape.allocator, size)  # the next layer, on its way

    def release(self, weight: SimulatedParameter) -> None:
        """Groups are let go of when the next one comes."""

    def gathered(self, weight: SimulatedParameter) -> SimulatedTensor | None:
        """The output embeddings are whole with their group."""
        self.fetch(weight)
        return None

    def end_forward(self) -> None:
        """Nothing is decided here."""

    def set_trace(self) -> None:
        """What comes next needs no recording."""

    def _reduce(self, weight: SimulatedParameter, grad: SimulatedTensor) -> None:
        """Hold a group's gradients until all are there; then a flat copy is reduced."""
        group = self._groups.get(id(weight), _REST)
        held = self._grads.setdefault(group, [])
        held.append(grad)
        if len(held) < self._learners[group]:
            return
        self._whole.pop(group, None)
        with self.tape.allocator.counted_as("buffers"):
            self.tape.new(sum(g.count for g in held), self.config.precision)
        del self._grads[group]

    def after_backward(self) -> None:
        """Let go of everything whole; the shard's gradients stay."""
        self._whole.clear()
        self._grads.clear()
        if not self.config.accumulates:
            self.earlier_micro_batches()

    def step(self) -> None:
        """In place, on shards."""


_REST = -1
