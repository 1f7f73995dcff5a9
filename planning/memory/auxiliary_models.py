"""A second model that is only asked: a reference, a teacher, a reward model.

What it holds does not grow while it is asked, so two of its layers are rehearsed and the others
lie there as bytes. The trained model with its adapter off lies there already: only what moves
is counted.
"""

from __future__ import annotations

from dataclasses import replace

from planning.memory.allocator import AllocatorSimulator, SimulatedStorage
from planning.memory.autograd import AutogradSimulator
from planning.memory.distillation_loss import compute_teacher_log_probs
from planning.memory.losses import head_outputs
from planning.memory.method_profile import AuxModel, MethodProfile
from planning.memory.parameters import MemoryConfig, all_weights, build
from planning.memory.tensors import SimulatedTensor
from planning.memory.zero3_gather import PERSISTS_BELOW, Zero3Gather

_FEW = 2


class AuxModelSimulator:
    """A frozen model.

    Args:
        frozen: Which.
        config: Of the model that is trained.
        tape: Whose allocator counts.
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
        self.decoder = build(self.config, allocator, part="models")
        layer = sum(w.storage.size for w in self.decoder.layers[0].weights() if w.storage)
        self._held = []
        with allocator.counted_as("models"):
            self._held.append(SimulatedStorage(allocator, (shape.layers - few) * layer))
            if config.zero == 3 or config.fsdp:
                self._held.append(self._shard(allocator, allocator.live - before))

    def _shard(self, allocator: AllocatorSimulator, whole: int) -> SimulatedStorage:
        """Let go of what is whole, and keep this device's part of it."""
        self._held.clear()
        for weight in all_weights(self.decoder):
            weight.sharded = weight.count >= PERSISTS_BELOW
            if weight.sharded:
                weight.storage = None
        self.gather_hook = Zero3Gather(self.tape, self.config.ahead, evaluated=True)
        return SimulatedStorage(allocator, -(-whole // self.config.world))

    def ask(self) -> SimulatedTensor | None:
        """Ask it about a micro-batch; a teacher's answer is saved for the loss."""
        tape, decoder = self.tape, self.decoder
        gather_hook, tape.gather_hook = tape.gather_hook, self.gather_hook
        grad_enabled, tape.grad_enabled = tape.grad_enabled, False
        teacher_log_probs: SimulatedTensor | None = None
        if self.gather_hook is not None:
            self.gather_hook.rewind()
        with tape.autocasting():
            hidden = decoder.forward(tape)
            if self.frozen.speaks:
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
        """From here on it is known which weights come next."""
        if self.gather_hook is not None:
            self.gather_hook.set_trace()


def _dtype(frozen: AuxModel, config: MemoryConfig) -> str:
    """How it lies in memory."""
    return config.precision if frozen.low or frozen.same or config.zero else "fp32"


def auxiliary_models(config: MemoryConfig, tape: AutogradSimulator) -> AuxModelSimulator | None:
    """The second model of a config, if it has one."""
    frozen = config.method.frozen
    return None if frozen is None else AuxModelSimulator(frozen, config, tape)
