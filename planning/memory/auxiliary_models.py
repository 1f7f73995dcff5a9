"""Memory of a second model that only runs forward: a reference model or a teacher.

Without a graph, the live tensors of a forward pass do not grow with the number of layers. Two
layers are simulated, and the weights of the others are counted as one allocation. If the model is
the trained one with its adapter disabled, its weights are allocated already and only its
activations are counted.
"""

from __future__ import annotations

from dataclasses import replace

from planning.memory.allocator import AllocatorSimulator, SimulatedStorage
from planning.memory.autograd import AutogradSimulator
from planning.memory.distillation_loss import compute_teacher_log_probs
from planning.memory.losses import head_outputs
from planning.memory.method_profile import AuxModel, MethodProfile
from planning.memory.parameters import MemoryConfig, all_weights, build_decoder
from planning.memory.tensors import SimulatedTensor
from planning.memory.zero3_gather import PERSISTS_BELOW, Zero3Gather

_FEW = 2


class AuxModelSimulator:
    """Frozen model that runs forward on each micro-batch.

    Args:
        frozen: The model.
        config: Configuration of the trained model.
        tape: Runs the forward pass; its allocator counts the weights.
    """

    def __init__(self, frozen: AuxModel, config: MemoryConfig, tape: AutogradSimulator):
        shape = frozen.shape or config.shape
        few = min(_FEW, shape.layers)
        self.tape = tape
        self.frozen = frozen
        self.config = replace(
            config,
            shape=replace(shape, layers=few),
            adapter=None,
            four_bit=config.four_bit if frozen.same else frozen.four_bit,
            frozen=_dtype(frozen, config),
            checkpointing=False,
            method=MethodProfile(head="score" if frozen.scores else "next tokens"),
        )
        self.gather_hook: Zero3Gather | None = None
        allocator = AllocatorSimulator() if frozen.same else tape.allocator
        before = allocator.live
        self.decoder = build_decoder(self.config, allocator, part="models")
        layer = sum(w.storage.size for w in self.decoder.layers[0].weights() if w.storage)
        self._held = []
        with allocator.counted_as("models"):
            self._held.append(SimulatedStorage(allocator, (shape.layers - few) * layer))
            if config.zero == 3 or config.fsdp:
                self._held.append(self._shard(allocator, allocator.live - before))

    def _shard(self, allocator: AllocatorSimulator, whole: int) -> SimulatedStorage:
        """Replace the full weights by the shard of this device."""
        self._held.clear()
        for weight in all_weights(self.decoder):
            weight.sharded = weight.count >= PERSISTS_BELOW
            if weight.sharded:
                weight.storage = None
        self.gather_hook = Zero3Gather(self.tape, self.config.ahead, evaluated=True)
        return SimulatedStorage(allocator, -(-whole // self.config.world))

    def forward(self) -> SimulatedTensor | None:
        """Run a micro-batch; return the log-probabilities of a teacher, None for a reference."""
        tape, decoder = self.tape, self.decoder
        gather_hook, tape.gather_hook = tape.gather_hook, self.gather_hook
        grad_enabled, tape.grad_enabled = tape.grad_enabled, False
        teacher_log_probs: SimulatedTensor | None = None
        if self.gather_hook is not None:
            self.gather_hook.rewind()
        with tape.autocasting():
            hidden = decoder.forward(tape)
            if self.frozen.full_distribution:
                teacher_log_probs = compute_teacher_log_probs(
                    tape, hidden, decoder.head, self.config
                )
            else:
                head_outputs(tape, hidden, decoder.head, self.config, None)
        if tape.gather_hook is not None:
            tape.gather_hook.end_forward()
        tape.gather_hook, tape.grad_enabled = gather_hook, grad_enabled
        return teacher_log_probs

    def set_trace(self) -> None:
        """Prefetch weights in the recorded order from now on."""
        if self.gather_hook is not None:
            self.gather_hook.set_trace()


def _dtype(frozen: AuxModel, config: MemoryConfig) -> str:
    """Return the data type of the weights in memory."""
    return config.precision if frozen.low or frozen.same or config.zero else "fp32"


def auxiliary_models(config: MemoryConfig, tape: AutogradSimulator) -> AuxModelSimulator | None:
    """Return the simulator of the method's frozen model; None if the method has none."""
    frozen = config.method.frozen
    return None if frozen is None else AuxModelSimulator(frozen, config, tape)
