"""One optimizer step on one device, rehearsed: what lies there, and the most at each moment."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from planning.memory.allocator import PARTS, SIZE, AllocatorSimulator, SimulatedStorage
from planning.memory.autograd import AutogradSimulator, SimulatedTensor
from planning.memory.auxiliary_models import AuxModelSimulator, auxiliary_models
from planning.memory.decoder import Decoder
from planning.memory.l2_sp import starts, with_distance
from planning.memory.losses import loss_of, values_of
from planning.memory.ops import join
from planning.memory.parameters import MemoryConfig, all_weights, build
from planning.memory.rollout import sample
from planning.memory.sharding import FsdpSimulator, ShardingSimulator, Zero3Simulator, ZeroSimulator

_ENGINES: dict[int, type[ShardingSimulator]] = {
    0: ShardingSimulator,
    1: ZeroSimulator,
    2: ZeroSimulator,
    3: Zero3Simulator,
}


def simulate(recipe: MemoryConfig) -> dict[str, dict[str, int]]:
    """Bytes by part at the fullest instant of each moment of a step.

    The moments: forward, backward (with what engines reduce during it), optimizer, evaluation.
    """
    with _no_collecting():
        return _simulate(recipe)


def at_rest(recipe: MemoryConfig) -> dict[str, dict[str, int]]:
    """The two moments without a forward pass: the start of a step, and the optimizer's turn."""
    with _no_collecting():
        stage = _Stage(recipe)
        stage.engine.step()
        stage.meter.moment("optimizer")
        return stage.meter.moments | stage.loading


def _simulate(recipe: MemoryConfig) -> dict[str, dict[str, int]]:
    stage = _Stage(recipe)
    if stage.tape.gate is not None:
        # The first pass is recorded; from the second on it is known what comes next.
        stage.micro_batch()
        stage.replay()
    stage.micro_batch()
    stage.engine.step()
    for weight in stage.engine.learning:
        weight.grad = None
    stage.meter.moment("optimizer")
    stage.evaluate()
    return stage.meter.moments | stage.loading


class _Stage:
    """Everything a step needs, as it stands when the step begins."""

    def __init__(self, recipe: MemoryConfig):
        self.recipe = recipe
        self.meter = AllocatorSimulator()
        self.decoder = build(recipe, self.meter)
        self.loading = _loading(recipe, self.decoder, self.meter)
        self.tape = AutogradSimulator(self.meter, recipe.device)
        self.beside: AuxModelSimulator | None = auxiliary_models(recipe, self.tape)
        self.scorers = _scorers(recipe, self.meter)
        kind = FsdpSimulator if recipe.fsdp else _ENGINES[recipe.zero]
        self.engine = kind(recipe, self.tape, self.decoder)
        self.starts = starts(self.engine.learning, self.meter) if recipe.learning.anchored else []
        self.tape.autocast = self.engine.autocast
        self.meter.forget()
        if recipe.learning.rollout is not None:
            sample(self.tape, self.decoder, recipe)
            self.meter.moment("generation")
        if recipe.accumulates:
            self.engine.earlier_micro_batches()
        self.meter.restart()
        self.meter.moment("start")

    def replay(self) -> None:
        """From here on it is known which weights come next."""
        assert self.tape.gate is not None
        self.tape.gate.replay()
        if self.beside is not None:
            self.beside.replay()
        generation = self.meter.moments.pop("generation", None)
        self.meter.forget()
        self.meter.moment("start")
        if generation is not None:
            self.meter.moments["generation"] = generation

    def micro_batch(self) -> None:
        """Forward, backward, and what the engine does of its own."""
        tape, recipe = self.tape, self.recipe
        batch = [tape.new(recipe.rows * recipe.length, "int64") for _ in range(3)]
        out = self._forward()
        if tape.gate is not None:
            tape.gate.turn()
        self.meter.moment("forward")
        tape.backward(out, tape.new(out.count, "fp32"))
        del out, batch
        self.engine.after_backward()
        self.meter.moment("backward")

    def evaluate(self) -> None:
        """Held-out rows: no graph, and nothing of the engine."""
        tape, recipe = self.tape, self.recipe
        tape.gate = None
        tape.grad_enabled = False
        tape.autocast = None if recipe.precision == "fp32" else recipe.precision
        self._forward()
        self.meter.moment("evaluation")

    def _forward(self) -> SimulatedTensor:
        tape, recipe = self.tape, self.recipe
        known = None if self.beside is None else self.beside.ask()
        with tape.autocasting():
            hidden = self.decoder.forward(tape)
            out = loss_of(tape, hidden, self.decoder.head, recipe, known)
            del hidden
            if self.decoder.critic is not None:
                out = join(tape, out, values_of(tape, self.decoder.critic.forward(tape), recipe))
        if self.starts and tape.grad_enabled:
            return with_distance(tape, out, self.engine.learning)
        return out


def _loading(
    recipe: MemoryConfig, decoder: Decoder, meter: AllocatorSimulator
) -> dict[str, dict[str, int]]:
    """The moment at which the last weight comes to rest in 4 bits, and is still there in 16 too.

    Every process reads the whole model, whatever shards it later.
    """
    if recipe.four_bit is None:
        return {}
    parts = dict(zip(PARTS, meter.by_part, strict=True))
    largest = max(w.count for w in all_weights(decoder) if not w.learns)
    parts["buffers"] += largest * SIZE[recipe.four_bit.compute]
    return {"loading": parts}


def _scorers(recipe: MemoryConfig, meter: AllocatorSimulator) -> list[SimulatedStorage]:
    """Reward models, in 16 bits on a device that has them (`training/rewards/model.py`)."""
    size = SIZE["fp32" if recipe.device == "cpu" else "bf16"]
    with meter.belongs_to("models"):
        return [SimulatedStorage(meter, s.parameters * size) for s in recipe.learning.scorers]


@contextmanager
def _no_collecting() -> Iterator[None]:
    """Spare Python its search for cycles, of which there are none: it takes half the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
