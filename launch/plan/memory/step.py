"""One optimizer step on one device, rehearsed: what lies there, and the most at each moment."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from launch.plan.memory.beside import Beside, beside
from launch.plan.memory.engines import Engine, FsdpEngine, Zero3Engine, ZeroEngine
from launch.plan.memory.heads import loss_of
from launch.plan.memory.rollout import sample
from launch.plan.memory.tape import Meter, Tape, Tensor
from launch.plan.memory.weights import Recipe, build

_ENGINES: dict[int, type[Engine]] = {0: Engine, 1: ZeroEngine, 2: ZeroEngine, 3: Zero3Engine}


def rehearse(recipe: Recipe) -> dict[str, dict[str, int]]:
    """Bytes by part at the fullest instant of each moment of a step.

    The moments: forward, backward (with what engines reduce during it), optimizer, evaluation.
    """
    with _no_collecting():
        return _rehearse(recipe)


def at_rest(recipe: Recipe) -> dict[str, dict[str, int]]:
    """The two moments without a forward pass: the start of a step, and the optimizer's turn."""
    with _no_collecting():
        stage = _Stage(recipe)
        stage.engine.step()
        stage.meter.moment("optimizer")
        return stage.meter.moments


def _rehearse(recipe: Recipe) -> dict[str, dict[str, int]]:
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
    return stage.meter.moments


class _Stage:
    """Everything a step needs, as it stands when the step begins."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.meter = Meter()
        self.decoder = build(recipe, self.meter)
        self.tape = Tape(self.meter, recipe.device)
        self.beside: Beside | None = beside(recipe, self.tape)
        kind = FsdpEngine if recipe.fsdp else _ENGINES[recipe.zero]
        self.engine = kind(recipe, self.tape, self.decoder)
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

    def _forward(self) -> Tensor:
        tape, recipe = self.tape, self.recipe
        known = None if self.beside is None else self.beside.ask()
        with tape.autocasting():
            hidden = self.decoder.forward(tape)
            return loss_of(tape, hidden, self.decoder.head, recipe, known)


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
