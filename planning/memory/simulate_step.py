"""Simulation of one optimizer step on one device: the peak of each phase by category."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from planning.memory.allocator import PARTS, SIZE, AllocatorSimulator, SimulatedStorage
from planning.memory.autograd import AutogradSimulator
from planning.memory.auxiliary_models import AuxModelSimulator, auxiliary_models
from planning.memory.decoder import Decoder
from planning.memory.experts import balance_loss
from planning.memory.l2_sp import add_l2_penalty, initial_copies
from planning.memory.losses import critic_values, head_outputs
from planning.memory.ops import cat
from planning.memory.parameters import MemoryConfig, all_weights, build_decoder
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
    """Return the bytes by category at the peak of each phase of a step.

    The phases are start, generation (if answers are sampled), forward, loss, last layer, middle,
    backward (gradient reduction included), optimizer, evaluation and, for 4-bit bases, loading.
    """
    with _gc_disabled():
        return _simulate(config)


def static_peaks(config: MemoryConfig) -> dict[str, dict[str, int]]:
    """Return the peaks of the phases without a forward pass: start and optimizer.

    They are exact for any number of layers and cost almost nothing, which `quick_peak_gib` uses.
    """
    with _gc_disabled():
        stage = _SimulatedStep(config)
        stage.engine.step()
        stage.allocator.record_peak("optimizer")
        return stage.allocator.peaks | stage.loading


def _simulate(config: MemoryConfig) -> dict[str, dict[str, int]]:
    stage = _SimulatedStep(config)
    if stage.tape.gather_hook is not None:
        # DeepSpeed records its trace in the first pass and prefetches from the second on, so the
        # second is the one to measure.
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
    """Model, sharding and auxiliary models of a step, in the state at its start.

    Args:
        config: The simulated job.
    """

    def __init__(self, config: MemoryConfig):
        self.config = config
        self.allocator = AllocatorSimulator()
        self.decoder = build_decoder(config, self.allocator)
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
        """Let gather hooks prefetch along the recorded trace, and measure again from the start."""
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
        """Simulate forward, backward and the gradient reduction of one micro-batch."""
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
        """Simulate a forward pass on held-out rows, without a graph and without sharding."""
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
        logits = self._router_logits()
        if logits:
            out = cat(tape, out, balance_loss(tape, logits))
        if self.initial_copies and tape.grad_enabled:
            return add_l2_penalty(tape, out, self.engine.trainable)
        return out

    def _router_logits(self) -> list[SimulatedTensor]:
        """Return the router logits of the policy, then those of a critic."""
        parts = (self.decoder, self.decoder.critic)
        return [
            logits for part in parts if part is not None for logits in part.take_router_logits()
        ]


def _loading(
    config: MemoryConfig, decoder: Decoder, allocator: AllocatorSimulator
) -> dict[str, dict[str, int]]:
    """Return the peak of loading a 4-bit base: its last weight exists in 16 bits as well.

    Every process loads the complete model, even if it is sharded later.
    """
    if config.four_bit is None:
        return {}
    parts = dict(zip(PARTS, allocator.by_part, strict=True))
    largest = max(w.count for w in all_weights(decoder) if not w.requires_grad)
    parts["buffers"] += largest * SIZE[config.four_bit.compute]
    return {"loading": parts}


def _scorers(config: MemoryConfig, allocator: AllocatorSimulator) -> list[SimulatedStorage]:
    """Allocate the reward models, in bf16 on accelerators (`training/rewards/model.py`)."""
    size = SIZE["fp32" if config.device == "cpu" else "bf16"]
    with allocator.counted_as("models"):
        return [SimulatedStorage(allocator, s.parameters * size) for s in config.method.scorers]


@contextmanager
def _gc_disabled() -> Iterator[None]:
    """Disable the cyclic garbage collector inside the context.

    The graph has no cycles, and the collector would take half of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
