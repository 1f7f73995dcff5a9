"""Persistent state on one device with a single process, DDP, DeepSpeed's ZeRO or FSDP2.

Models accelerate 1.15, torch 2.13 (`nn/parallel/distributed.py`, `distributed/fsdp/_fully_shard`)
and deepspeed 0.19.8 (`runtime/zero/stage_1_and_2.py`, `stage3.py`), with the settings of
`training/trainer/deepspeed.py`. What ZeRO shards, by stage: 1 optimizer states, 2 gradients as
well, 3 weights as well (arXiv:1910.02054).
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
"""Elements that the optimizer step of ZeRO 3 processes at once (`sub_group_size`)."""

_SCORES = 3
"""fp32 values that AdaLoRA keeps per weight: importance, and the moving averages of importance and
of its uncertainty (`peft/tuners/adalora/layer.py`)."""


class ShardingSimulator:
    """State of a single process or of DDP: nothing is sharded.

    Args:
        config: The simulated job.
        tape: Its allocator counts the state.
        decoder: The model, with its weights allocated.
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
        """Data type that autocast uses in training; None without autocast."""
        return None if self.config.precision == "fp32" else self.config.precision

    def init_state(self) -> None:
        """Allocate the state that persists between steps."""
        for weight in self.trainable:
            self.hold("optimizer", state_bytes(self.config.optimizer, weight.count, weight.width))
        if getattr(self.config.adapter, "scored", False):
            pairs = [w for layer in self.decoder.layers for w in chain(*layer.adapters.values())]
            self.hold("optimizer", _SCORES * 4 * sum(weight.count for weight in pairs))
        if self.config.world > 1:
            # DDP copies the gradients into buckets: gradient_as_bucket_view is off by default.
            self.hold("buffers", sum(w.count * SIZE[w.dtype] for w in self.trainable))

    def hold(self, part: str, size: int) -> None:
        """Allocate bytes that are never freed, under the category `part`."""
        if size:
            with self.tape.allocator.counted_as(part):
                self.held.append(SimulatedStorage(self.tape.allocator, size))

    def earlier_micro_batches(self) -> None:
        """Allocate the gradients that earlier micro-batches of the step have accumulated."""
        with self.tape.allocator.counted_as("gradients"):
            for weight in self.trainable:
                weight.grad = self.tape.new(weight.count, weight.dtype)

    def after_backward(self) -> None:
        """Simulate the communication at the end of a micro-batch; none by default."""

    def step(self) -> None:
        """Simulate the optimizer step; fused kernels work in place and allocate nothing."""


class ZeroSimulator(ShardingSimulator):
    """State of ZeRO 1 and 2: full weights, sharded optimizer states and (2) gradients."""

    _bucket: SimulatedTensor | None = None
    _in_bucket = 0
    _oversized: SimulatedTensor | None = None
    _shard: SimulatedTensor | None = None
    _earlier: SimulatedTensor | None = None

    @property
    def autocast(self) -> str | None:
        """None: DeepSpeed casts the model itself and keeps fp32 master weights in the optimizer."""
        return None

    @property
    def _shard_count(self) -> int:
        return -(-sum(w.count for w in self.trainable) // self.config.world)

    @property
    def _on_host(self) -> bool:
        """True if optimizer states and gradients of the shard are offloaded."""
        return self.config.offload != "none" and self.config.device != "cpu"

    def init_state(self) -> None:
        """Allocate the fp32 weights and optimizer states of the shard.

        With offload they are in host memory; the device then needs a buffer of the size of the
        largest gradient, through which gradients are copied to the host.
        """
        for weight in self.trainable:
            weight.sink = self._receive_gradient
        if self._on_host:
            largest = max((w.count for w in self.trainable), default=0)
            self.hold("buffers", largest * SIZE[self.config.precision])
            return
        self.hold("optimizer", self._shard_count * 4)
        self.hold("optimizer", state_bytes(self.config.optimizer, self._shard_count, 0))

    def earlier_micro_batches(self) -> None:
        """Allocate the accumulated gradients: all of them in stage 1, those of the shard in 2."""
        if self.config.zero == 1:
            super().earlier_micro_batches()
            # Stage 1 reduces at the gradient accumulation boundary and keeps its bucket until then.
            self._open_bucket()
        elif not self._on_host:
            with self.tape.allocator.counted_as("gradients"):
                self._earlier = self.tape.new(self._shard_count, self.config.precision)

    def _receive_gradient(self, weight: SimulatedParameter, grad: SimulatedTensor) -> None:
        self._open_bucket()
        if self.config.zero == 1:
            weight.store_grad(grad)
        else:
            self._add_to_bucket(grad)

    def _open_bucket(self) -> None:
        if self._bucket is None:
            with self.tape.allocator.counted_as("buffers"):
                # ZeRO 1 and 2 fill a second bucket while the first is reduced; ZeRO 3 has one.
                buckets = 2 if self.config.overlap and self.config.zero < 3 else 1
                self._bucket = self.tape.new(self.config.bucket * buckets, self.config.precision)

    def _add_to_bucket(self, grad: SimulatedTensor) -> None:
        """Copy a gradient into the bucket; one larger than the bucket is reduced by itself."""
        if self._in_bucket + grad.count > self.config.bucket:
            self._flush()
        if grad.count > self.config.bucket:
            self._oversized = grad
        self._in_bucket += grad.count

    def _flush(self) -> None:
        """Reduce the bucket through a flat copy, and keep the gradients of this device's shard."""
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
        """Reduce the remaining gradients and free the bucket."""
        if self.config.zero == 1:
            for weight in reversed(self.trainable):
                if weight.grad is not None:
                    self._add_to_bucket(weight.grad)
                    weight.grad = None
        self._flush()
        self._bucket = None

    def step(self) -> None:
        """Simulate the step: the gradients of the shard are flattened, then cast to fp32.

        Both copies exist at once before the first is freed, which is often the peak of a job.
        """
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
    """State of ZeRO 3: weights are sharded as well and gathered when a module uses them."""

    def init_state(self) -> None:
        """Allocate shards of weights and gradients, and the bucket, which is never freed.

        A weight below `stage3_param_persistence_threshold` is stored in full next to its shard.
        """
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
        """Allocate nothing: gradients accumulate in the shard, which always exists."""

    def _flush(self) -> None:
        if self._in_bucket:
            with self.tape.allocator.counted_as("buffers"):
                self.tape.new(self._in_bucket, self.config.precision)
        self._oversized = None
        self._in_bucket = 0

    def after_backward(self) -> None:
        """Reduce the remaining gradients; the bucket stays allocated."""
        self._flush()

    def step(self) -> None:
        """Simulate the step: gradients are flattened and cast to fp32 one sub-group at a time."""
        if self._on_host:
            return
        with self.tape.allocator.counted_as("gradients"):
            count = min(self._shard_count, SUB_GROUP_ELEMENTS)
            flat = self.tape.new(count, self.config.precision)
            if self.config.precision != "fp32":
                flat = self.tape.new(count, "fp32")
            del flat


class FsdpSimulator(ShardingSimulator):
    """State and gather hook of FSDP2 (`torch.distributed.fsdp.fully_shard`).

    Each layer is one group of weights, which is gathered while it runs. Embeddings, final norm and
    head are simulated as one group that stays gathered from the forward pass to the end of the
    backward pass: Accelerate (`fsdp2_prepare_model`) turns `reshard_after_forward` off for the norm
    and the head, and for embeddings tied to it. Untied embeddings are a group that is freed after
    use, so the simulation counts them too long.
    """

    @property
    def autocast(self) -> str | None:
        """None: `MixedPrecisionPolicy` gathers weights in the job's precision."""
        return None

    def init_state(self) -> None:
        """Allocate shards of weights and optimizer states."""
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
        self._count[_ROOT] = rest
        self._gathered: dict[int, SimulatedStorage] = {}
        self._grads: dict[int, list[SimulatedTensor]] = {}
        # The gradient of a linear layer's bias is not simulated, and a group must not wait for it.
        silent = {
            id(bias)
            for layer in self.decoder.layers
            for name, bias in layer.biases.items()
            if name in layer.linears
        }
        groups = [self._groups.get(id(w), _ROOT) for w in self.trainable if id(w) not in silent]
        self._learners = {group: groups.count(group) for group in set(groups)}
        self.tape.gather_hook = self

    def earlier_micro_batches(self) -> None:
        """Allocate sharded gradients in fp32, the data type of the sharded weights."""
        for weight in self.trainable:
            self.hold("gradients", -(-weight.count * SIZE["fp32"] // self.config.world))

    def fetch(self, weight: SimulatedParameter) -> None:
        """Gather the group of a weight, free the previous layer and prefetch the next."""
        group = self._groups.get(id(weight), _ROOT)
        if group in self._gathered:
            return
        for other in [g for g in self._gathered if g not in (_ROOT, group)]:
            del self._gathered[other]
        size = self._count[group] * SIZE[self.config.precision]
        with self.tape.allocator.counted_as("buffers"):
            flat = SimulatedStorage(self.tape.allocator, size)
            self._gathered[group] = SimulatedStorage(self.tape.allocator, size)
            del flat
            if group != _ROOT:
                # All-gather of the next layer, in flight while this one runs.
                SimulatedStorage(self.tape.allocator, size)

    def release(self, weight: SimulatedParameter) -> None:
        """Do nothing: a group is freed when the next one is fetched."""

    def gathered(self, weight: SimulatedParameter) -> SimulatedTensor | None:
        """Gather the group of the output embeddings, which frees them later by itself."""
        self.fetch(weight)
        return None

    def end_forward(self) -> None:
        """Do nothing: FSDP2 does not depend on a trace."""

    def set_trace(self) -> None:
        """Do nothing: the order of layers is known without a trace."""

    def _reduce(self, weight: SimulatedParameter, grad: SimulatedTensor) -> None:
        """Keep gradients until those of the group are complete, then reduce-scatter a flat copy."""
        group = self._groups.get(id(weight), _ROOT)
        held = self._grads.setdefault(group, [])
        held.append(grad)
        if len(held) < self._learners[group]:
            return
        self._gathered.pop(group, None)
        with self.tape.allocator.counted_as("buffers"):
            self.tape.new(sum(g.count for g in held), self.config.precision)
        del self._grads[group]

    def after_backward(self) -> None:
        """Free everything that is gathered; the gradients of the shard stay."""
        self._gathered.clear()
        self._grads.clear()
        if not self.config.accumulates:
            self.earlier_micro_batches()

    def step(self) -> None:
        """Simulate the step, which works in place on shards."""


_ROOT = -1
"""Key of the root group among those of the layers."""
