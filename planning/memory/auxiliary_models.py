"""A second model that is only asked: a reference, a teacher, a reward model.

What it holds does not grow while it is asked, so two of its layers are rehearsed and the others
lie there as bytes. The trained model with its adapter off lies there already: only what moves
is counted.
"""

from __future__ import annotations

from dataclasses import replace

from planning.memory.allocator import AllocatorSimulator, SimulatedStorage
from planning.memory.autograd import AutogradSimulator, SimulatedTensor
from planning.memory.distillation_loss import known_of
from planning.memory.losses import loss_of
from planning.memory.method_profile import AuxModel, MethodProfile
from planning.memory.parameters import MemoryConfig, all_weights, build
from planning.memory.zero3_gather import PERSISTS_BELOW, Zero3Gather

_FEW = 2


class AuxModelSimulator:
    """A frozen model.

    Args:
        frozen: Which.
        recipe: Of the model that is trained.
        tape: Whose meter counts.
    """

    def __init__(self, frozen: AuxModel, recipe: MemoryConfig, tape: AutogradSimulator):
        shape = frozen.shape or recipe.shape
        few = min(_FEW, shape.layers)
        self.tape = tape
        self.frozen = frozen
        self.recipe = replace(
            recipe,
            shape=replace(shape, layers=few),
            adapter=None,
            four_bit=recipe.four_bit if frozen.same else frozen.four_bit,
            frozen=_dtype(frozen, recipe),
            checkpointing=False,
            learning=MethodProfile(head="score" if frozen.scores else "next tokens"),
        )
        self.gate: Zero3Gather | None = None
        meter = AllocatorSimulator() if frozen.same else tape.meter
        before = meter.live
        self.decoder = build(self.recipe, meter, part="models")
        layer = sum(w.storage.size for w in self.decoder.layers[0].weights() if w.storage)
        self._held = []
        with meter.belongs_to("models"):
            self._held.append(SimulatedStorage(meter, (shape.layers - few) * layer))
            if recipe.zero == 3 or recipe.fsdp:
                self._held.append(self._shard(meter, meter.live - before))

    def _shard(self, meter: AllocatorSimulator, whole: int) -> SimulatedStorage:
        """Let go of what is whole, and keep this device's part of it."""
        self._held.clear()
        for weight in all_weights(self.decoder):
            weight.sharded = weight.count >= PERSISTS_BELOW
            if weight.sharded:
                weight.storage = None
        self.gate = Zero3Gather(self.tape, self.recipe.ahead, evaluated=True)
        return SimulatedStorage(meter, -(-whole // self.recipe.world))

    def ask(self) -> SimulatedTensor | None:
        """Ask it about a micro-batch; a teacher's answer is kept for the loss."""
        tape, decoder = self.tape, self.decoder
        gate, tape.gate = tape.gate, self.gate
        grad_enabled, tape.grad_enabled = tape.grad_enabled, False
        known: SimulatedTensor | None = None
        if self.gate is not None:
            self.gate.again()
        with tape.autocasting():
            hidden = decoder.forward(tape)
            if self.frozen.speaks:
                known = known_of(tape, hidden, decoder.head, self.recipe)
            else:
                loss_of(tape, hidden, decoder.head, self.recipe, None)
        if tape.gate is not None:
            tape.gate.turn()
        tape.gate, tape.grad_enabled = gate, grad_enabled
        return known

    def replay(self) -> None:
        """From here on it is known which weights come next."""
        if self.gate is not None:
            self.gate.replay()


def _dtype(frozen: AuxModel, recipe: MemoryConfig) -> str:
    """How it lies in memory."""
    return recipe.precision if frozen.low or frozen.same or recipe.zero else "fp32"


def auxiliary_models(recipe: MemoryConfig, tape: AutogradSimulator) -> AuxModelSimulator | None:
    """The second model of a recipe, if it has one."""
    frozen = recipe.learning.frozen
    return None if frozen is None else AuxModelSimulator(frozen, recipe, tape)
