"""Memory of a rollout: the key-value cache, and the temporaries of sampling a token.

Models `generate` of Transformers with a `DynamicCache`. TRL's trainers call it for all completions
of a step at once; with ZeRO 3 they first gather all weights.
"""

from __future__ import annotations

from dataclasses import replace

from planning.memory.allocator import SIZE, SimulatedStorage
from planning.memory.attention import AttentionShape
from planning.memory.autograd import AutogradSimulator
from planning.memory.decoder import Decoder
from planning.memory.method_profile import RolloutProfile
from planning.memory.ops import cast, linear
from planning.memory.parameters import MemoryConfig, all_weights
from planning.memory.tensors import SimulatedTensor


class _PrefillCache:
    """Cache during prefill: every layer stores the keys and values of the prompt."""

    def __init__(self) -> None:
        self.layers: list[tuple[SimulatedTensor, SimulatedTensor]] = []

    def update(
        self, tape: AutogradSimulator, layer: int, k: SimulatedTensor, v: SimulatedTensor
    ) -> tuple[SimulatedTensor, SimulatedTensor]:
        with tape.allocator.counted_as("generation"):
            saved = tape.new(k.count, k.dtype), tape.new(v.count, v.dtype)
        self.layers.append(saved)
        return saved


class _DecodeCache:
    """Cache at the last token, when it is largest.

    `DynamicCache` concatenates the new token to a layer's keys, then to its values: old and new
    keys of one layer are live at the same time.
    """

    def __init__(self, tape: AutogradSimulator, read: _PrefillCache, rollout: RolloutProfile):
        whole = rollout.prompt + rollout.new
        with tape.allocator.counted_as("generation"):
            self.layers = [
                tuple(tape.new(part.count // rollout.prompt * whole, part.dtype) for part in layer)
                for layer in read.layers
            ]

    def update(
        self, tape: AutogradSimulator, layer: int, k: SimulatedTensor, v: SimulatedTensor
    ) -> tuple[SimulatedTensor, SimulatedTensor]:
        before = self.layers[layer]
        with tape.allocator.counted_as("generation"):
            keys = tape.new(before[0].count, before[0].dtype)
            self.layers[layer] = (keys, before[1])
            del before
            values = tape.new(self.layers[layer][1].count, self.layers[layer][1].dtype)
        self.layers[layer] = (keys, values)
        return keys, values


def sample(tape: AutogradSimulator, decoder: Decoder, config: MemoryConfig) -> None:
    """Simulate the rollout of a step: the prefill and the decoding of the last token.

    Args:
        tape: Runs the model; gradients are off meanwhile.
        decoder: The policy.
        config: The simulated job.
    """
    rollout = config.method.rollout
    assert rollout is not None
    gather_hook, tape.gather_hook = tape.gather_hook, None
    grad_enabled, tape.grad_enabled = tape.grad_enabled, False
    with tape.allocator.counted_as("generation"):
        whole = SimulatedStorage(tape.allocator, _gathered(decoder, config))
    with tape.autocasting():
        reading = _PrefillCache()
        _forward(tape, decoder, config, rollout, rollout.prompt, reading)
        full = _DecodeCache(tape, reading, rollout)
        del reading
        _forward(tape, decoder, config, rollout, 1, full)
    del full, whole
    tape.gather_hook, tape.grad_enabled = gather_hook, grad_enabled


def _gathered(decoder: Decoder, config: MemoryConfig) -> int:
    """Return the bytes of sharded weights that are gathered for the rollout.

    FSDP gathers layer by layer, with the next one in flight; ZeRO 3 gathers all of them.
    """
    size = SIZE[config.precision]
    sharded = [w.count for w in all_weights(decoder) if w.sharded]
    if config.fsdp and sharded:
        outside = decoder.embed.count + decoder.head.count
        return 2 * size * sum(w.count for w in decoder.layers[0].weights()) + size * outside
    return size * sum(sharded)


def _forward(
    tape: AutogradSimulator,
    decoder: Decoder,
    config: MemoryConfig,
    rollout: RolloutProfile,
    length: int,
    cache: _PrefillCache | _DecodeCache,
) -> None:
    size = AttentionShape(
        rollout.answers, length, decoder.size.heads, decoder.size.kv_heads, decoder.size.width
    )
    reader = replace(decoder, size=size, masked=True, checkpointing=False, cache=cache)
    hidden = reader.forward(tape)
    last = SimulatedTensor(rollout.answers * config.shape.hidden, hidden.dtype, hidden.storage)
    with tape.allocator.counted_as("logits"):
        _sample_token(tape, linear(tape, last, decoder.head, config.shape.hidden), rollout)


def _sample_token(
    tape: AutogradSimulator, logits: SimulatedTensor, rollout: RolloutProfile
) -> None:
    """Sample one token per completion: fp32 logits, top-k and top-p filters, and a softmax."""
    count = logits.count
    scores = cast(
        tape, SimulatedTensor(count, "bf16", logits.storage), "fp32"
    )  # `generate` always copies
    if rollout.top_k:
        tape.new(count, "bool")
        scores = tape.new(count, "fp32")
    if rollout.top_p:
        ordered, places = tape.new(count, "fp32"), tape.new(count, "int64")
        shares, summed = tape.new(count, "fp32"), tape.new(count, "fp32")
        removed = tape.new(2 * count, "bool")
        del shares, summed, ordered, places
        scores = tape.new(count, "fp32")
        del removed
    tape.new(count, "fp32")
    del scores
