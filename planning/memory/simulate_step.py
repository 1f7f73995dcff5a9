"""One optimizer step on one device, rehearsed: what lies there, and the most at each moment."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from planning.memory.allocator import PARTS, SIZE, AllocatorSimulator, SimulatedStorage
from planning.memory.autograd import AutogradSimulator
from planning.memory.auxiliary_models import AuxModelSimulator, auxiliary_models
from planning.memory.decoder import Decoder
from planning.memory.l2_sp import add_l2_penalty, initial_copies
from planning.memory.losses import critic_values, head_outputs
from planning.memory.ops import cat
from planning.memory.parameters import MemoryConfig, all_weights, build
from planning.memory.rollout import sample
from planning.memory.sharding import FsdpSimulator, ShardingSimulator, Zero3Simulator, ZeroSimulator
from planning.memory.tensors import SimulatedTensor

_SHARDING: dict[int, type[ShardingSimulator]] = {
    0: ShardingSimulator,
    1: ZeroSimulator,
    2: ZeroSimulator,
    3: Zero3Simulator,
}


def simulate(config: MemoryConfig) -> dict[str, dict[str, int]]:
    """Bytes by part at the fullest instant of each moment of a step.

    The moments: forward, backward (with what engines reduce during it), optimizer, evaluation.
    """
    with _gc_disabled():
        return _simulate(config)


def static_peaks(config: MemoryConfig) -> dict[str, dict[str, int]]:
    """The two moments without a forward pass: the start of a step, and the optimizer's turn."""
    with _gc_disabled():
        stage = _SimulatedStep(config)
        stage.engine.step()
        stage.allocator.record_peak("optimizer")
        return stage.allocator.peaks | stage.loading


def _simulate(config: MemoryConfig) -> dict[str, dict[str, int]]:
    stage = _SimulatedStep(config)
    if stage.tape.gather_hook is not None:
        # The first pass is recorded; from the second on it is known what comes next.
        stage.micro_batch()
        stage.set_trace()
    stage.micro_batch()
    stage.engine.step()
    for weight in stage.engine.trainable:
        weight.grad = None
    stage.allocator.record_peak("optimizer")
    stage.evaluate()
    return stage.allocator.peaks | stage.loading


class _SimulatedStep:
    """Everything a step needs, as it stands when the step begins."""

    def __init__(self, config: MemoryConfig):
        self.config = config
        self.allocator = AllocatorSimulator()
        self.decoder = build(config, self.allocator)
        self.loading = _loading(config, self.decoder, self.allocator)
        self.tape = AutogradSimulator(self.allocator, config.device)
        self.auxiliary: AuxModelSimulator | None = auxiliary_models(config, self.tape)
        self.scorers = _scorers(config, self.allocator)
        kind = FsdpSimulator if config.fsdp else _SHARDING[config.zero]
        self.engine = kind(config, self.tape, self.decoder)
        self.initial_copies = (
            initial_copies(self.engine.trainable, self.allocator) if config.method.anchored else []
        )
        self.tape.autocast = self.engine.autocast
        self.allocator.reset()
        if config.method.rollout is not None:
            sample(self.tape, self.decoder, config)
            self.allocator.record_peak("generation")
        if config.accumulates:
            self.engine.earlier_micro_batches()
        self.allocator.reset_peak()
        self.allocator.record_peak("start")

    def set_trace(self) -> None:
        """From here on it is known which weights come next."""
        assert self.tape.gather_hook is not None
        self.tape.gather_hook.set_trace()
        if self.auxiliary is not None:
            self.auxiliary.set_trace()
        generation = self.allocator.peaks.pop("generation", None)
        self.allocator.reset()
        self.allocator.record_peak("start")
        if generation is not None:
            self.allocator.peaks["generation"] = generation

    def micro_batch(self) -> None:
        """Forward, backward, and what the engine does of its own."""
        tape, config = self.tape, self.config
        batch = [tape.new(config.rows * config.length, "int64") for _ in range(3)]
        out = self._forward()
        if tape.gather_hook is not None:
            tape.gather_hook.end_forward()
        self.allocator.record_peak("forward")
        tape.backward(out, tape.new(out.count, "fp32"))
        del out, batch
        self.engine.after_backward()
        self.allocator.record_peak("backward")

    def evaluate(self) -> None:
        """Held-out rows: no graph, and nothing of the engine."""
        tape, config = self.tape, self.config
        tape.gather_hook = None
        tape.grad_enabled = False
        tape.autocast = None if config.precision == "fp32" else config.precision
        self._forward()
        self.allocator.record_peak("evaluation")

    def _forward(self) -> SimulatedTensor:
        tape, config = self.tape, self.config
        teacher_log_probs = None if self.auxiliary is None else self.auxiliary.forward()
        with tape.autocasting():
            hidden = self.decoder.forward(tape)
            out = head_outputs(tape, hidden, self.decoder.head, config, teacher_log_probs)
            del hidden
            if self.decoder.critic is not None:
                out = cat(tape, out, critic_values(tape, self.decoder.critic.forward(tape), config))
        if self.initial_copies and tape.grad_enabled:
            return add_l2_penalty(tape, out, self.engine.trainable)
        return out


def _loading(
    config: MemoryConfig, decoder: Decoder, allocator: AllocatorSimulator
) -> dict[str, dict[str, int]]:
    """The moment at which the last weight comes to rest in 4 bits, and is still there in 16 too.

    Every process reads the whole model, whatever shards it later.
    """
    if config.four_bit is None:
        return {}
    parts = dict(zip(PARTS, allocator.by_part, strict=True))
    largest = max(w.count for w in all_weights(decoder) if not w.requires_grad)
    parts["buffers"] += largest * SIZE[config.four_bit.compute]
    return {"loading": parts}


def _scorers(config: MemoryConfig, allocator: AllocatorSimulator) -> list[SimulatedStorage]:
    """Reward models, in 16 bits on a device that has them (`training/rewards/model.py`)."""
    size = SIZE["fp32" if config.device == "cpu" else "bf16"]
    with allocator.counted_as("models"):
        return [SimulatedStorage(allocator, s.parameters * size) for s in config.method.scorers]


@contextmanager
def _gc_disabled() -> Iterator[None]:
    """Spare Python its search for cycles, of which there are none: it takes half the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
