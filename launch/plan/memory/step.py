"""One optimizer step on one device, rehearsed: what lies there, and the most at each moment."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from launch.plan.memory.decoder import Decoder
from launch.plan.memory.engines import Engine, FsdpEngine, Zero3Engine, ZeroEngine
from launch.plan.memory.head import loss
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
        meter, _, _, engine = _set_up(recipe)
        engine.step()
        meter.moment("optimizer")
        return meter.moments


def _rehearse(recipe: Recipe) -> dict[str, dict[str, int]]:
    meter, tape, decoder, engine = _set_up(recipe)
    if tape.gate is not None:
        # The first pass is recorded; from the second on it is known what comes next.
        _micro_batch(recipe, tape, decoder, engine)
        tape.gate.replay()
        meter.forget()
        meter.moment("start")
    _micro_batch(recipe, tape, decoder, engine)
    engine.step()
    for weight in engine.learning:
        weight.grad = None
    meter.moment("optimizer")
    tape.gate = None
    tape.grad_enabled = False
    tape.autocast = None if recipe.precision == "fp32" else recipe.precision
    _forward(recipe, tape, decoder)
    meter.moment("evaluation")
    return meter.moments


def _set_up(recipe: Recipe) -> tuple[Meter, Tape, Decoder, Engine]:
    meter = Meter()
    decoder = build(recipe, meter)
    tape = Tape(meter, recipe.device)
    kind = FsdpEngine if recipe.fsdp else _ENGINES[recipe.zero]
    engine = kind(recipe, tape, decoder)
    if recipe.accumulates:
        engine.earlier_micro_batches()
    tape.autocast = engine.autocast
    meter.forget()
    meter.moment("start")
    return meter, tape, decoder, engine


def _micro_batch(recipe: Recipe, tape: Tape, decoder: Decoder, engine: Engine) -> None:
    batch = [tape.new(recipe.rows * recipe.length, "int64") for _ in range(3)]
    out = _forward(recipe, tape, decoder)
    if tape.gate is not None:
        tape.gate.turn()
    tape.meter.moment("forward")
    tape.backward(out, tape.new(out.count, "fp32"))
    del out, batch
    engine.after_backward()
    tape.meter.moment("backward")


def _forward(recipe: Recipe, tape: Tape, decoder: Decoder) -> Tensor:
    with tape.autocasting():
        hidden = decoder.forward(tape)
        return loss(tape, hidden, decoder.head, recipe.rows, recipe.length, recipe.shape.hidden)


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
