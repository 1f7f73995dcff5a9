"""Weights of a job's model on one device, before they are sharded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from planning.expert_adapters import low_rank_sizes
from planning.memory.adapters import (
    Adapter,
    BottleneckCost,
    FourBitLayout,
    LoraCost,
    LowRankFactors,
    SoftPromptCost,
    saved_weights,
    trained_token_rows,
)
from planning.memory.allocator import SIZE, AllocatorSimulator, SimulatedStorage
from planning.memory.attention import AttentionShape
from planning.memory.decoder import Decoder, Layer
from planning.memory.experts import Experts
from planning.memory.method_profile import PLAIN, MethodProfile
from planning.memory.tensors import SimulatedParameter
from planning.model_shape import DOWN, ModelShape
from training.config.model import Freeze

NOTHING = Freeze()
"""Freezes nothing: every weight of the model is trained."""


@dataclass(frozen=True)
class MemoryConfig:
    """Settings of a job that decide its memory.

    Attributes:
        shape: Shape of the model, with as many layers as are simulated.
        device: `cuda`, `neuron` or `cpu`.
        rows: Sequences of a micro-batch.
        length: Tokens per row.
        packed: True if rows hold several documents.
        attention: `model.attention` of the job.
        checkpointing: True for gradient checkpointing.
        precision: `fp32`, `bf16` or `fp16`.
        adapter: Adapter trained in place of the weights, if there is one.
        four_bit: Layout of a base in 4 bits; None for a base in 16 or 32 bits.
        accumulates: True if gradients are accumulated over several micro-batches.
        optimizer: `train.optimizer` of the job.
        zero: ZeRO stage.
        fsdp: True if FSDP2 shards weights, gradients and states.
        world: Number of devices.
        offload: Place of optimizer states (with ZeRO 3, of weights too) between steps.
        evaluates: True if there are held-out rows.
        bucket: Elements that ZeRO reduces at once (`reduce_bucket_size`).
        ahead: Elements that ZeRO 3 prefetches (`stage3_prefetch_bucket_size`).
        overlap: True if communication overlaps the backward pass (`overlap_comm`).
        method: Models, sequences and rollouts that the method adds.
        frozen: Data type of a model that is not trained at all; empty for a trained model.
        freeze: Layers and weights of a trained model that are frozen.
    """

    shape: ModelShape
    device: str
    rows: int
    length: int
    packed: bool
    attention: str
    checkpointing: bool
    precision: str
    adapter: Adapter | None
    four_bit: FourBitLayout | None
    accumulates: bool
    optimizer: str
    zero: int
    world: int
    fsdp: bool = False
    offload: str = "none"
    evaluates: bool = True
    bucket: int = 200_000_000
    ahead: int = 50_000_000
    overlap: bool = False
    method: MethodProfile = PLAIN
    frozen: str = ""
    freeze: Freeze = NOTHING


def build_decoder(
    config: MemoryConfig, allocator: AllocatorSimulator, part: str = "weights"
) -> Decoder:
    """Build a decoder and allocate its weights without sharding.

    Args:
        config: The simulated job.
        allocator: Counts the weights.
        part: Category that they are counted under.
    """
    shape, adapter, four_bit = config.shape, config.adapter, config.four_bit
    base = base_dtype(config)
    everything = adapter is None and not config.frozen

    def weight(count: int, width: int = 0, dtype: str = base, *, name: str) -> SimulatedParameter:
        storage = SimulatedStorage(allocator, count * SIZE[dtype])
        requires_grad = everything and not is_frozen(name, config.freeze)
        return SimulatedParameter(count, dtype, requires_grad, width, storage=storage)

    def matrix(rows: int, columns: int, name: str) -> SimulatedParameter:
        if four_bit is None:
            return weight(rows * columns, columns, name=name)
        packed = SimulatedStorage(allocator, four_bit.packed_bytes(rows * columns))
        return SimulatedParameter(rows * columns, "uint8", False, columns, storage=packed)

    rest = "fp32" if four_bit is not None and four_bit.widens and not config.zero else base
    with allocator.counted_as(part):
        embed = weight(
            shape.vocab * shape.hidden, shape.hidden, rest, name="model.embed_tokens.weight"
        )
        layers = [
            Layer(
                experts=_experts(shape, before, partial(weight, dtype=rest)),
                linears={
                    name: matrix(rows, columns, f"{before}{name}.weight")
                    for name, (rows, columns) in shape.linears.items()
                },
                norms={
                    name: weight(count, dtype=rest, name=f"{before}{name}.weight")
                    for name, count in shape.norms.items()
                },
                biases={
                    name: weight(count, dtype=rest, name=f"{before}{name}.bias")
                    for name, count in shape.biases.items()
                },
            )
            for before in (f"model.layers.{index}." for index in range(shape.layers))
        ]
        norm = weight(shape.hidden, dtype=rest, name="model.norm.weight")
        if shape.scores:
            head = weight(shape.hidden, shape.hidden, rest, name="score.weight")
            # PEFT trains a new classification head together with the adapter.
            head.requires_grad = not config.frozen
        else:
            head = (
                embed
                if shape.tied
                else weight(embed.count, shape.hidden, rest, name="lm_head.weight")
            )
        decoder = Decoder(
            embed=embed,
            layers=layers,
            norm=norm,
            head=head,
            size=AttentionShape(
                config.rows, config.length, shape.heads, shape.kv_heads, shape.head_dim
            ),
            hidden=shape.hidden,
            attention=config.attention,
            # Packed documents need a mask. So do prompts of different lengths, which are padded on
            # the left, and the trained keys of prefix tuning.
            masked=config.packed or config.method.rollout is not None or _has_prefix(adapter),
            checkpointing=config.checkpointing,
            input_requires_grad=adapter is not None and config.checkpointing,
            adapter=adapter,
            four_bit=four_bit,
            balanced=shape.balanced and not config.frozen,
        )
        _add_adapter(decoder, shape, config, allocator)
        decoder.critic = _critic(decoder, config, allocator)
    return decoder


def _experts(
    shape: ModelShape, before: str, weight: Callable[..., SimulatedParameter]
) -> Experts | None:
    """Return router and experts of a layer, which are no linear layers and never in 4 bits.

    Args:
        shape: Shape of the model.
        before: Name of the layer, with a final dot.
        weight: Function that allocates a weight of the base.
    """
    if not shape.experts:
        return None
    weights = {
        name: weight(
            count, shape.expert_width if name == DOWN else shape.hidden, name=before + name
        )
        for name, count in shape.mixture.items()
    }
    return Experts(
        weights, shape.experts_per_token, shape.expert_width, shape.family in _LOW_SCORES
    )


_LOW_SCORES = frozenset(("qwen2_moe", "qwen3_moe"))
"""Families whose routers cast the scores of the selected experts to the type of the logits."""


def _critic(policy: Decoder, config: MemoryConfig, allocator: AllocatorSimulator) -> Decoder | None:
    """Return the critic of PPO: a model of its own, or more adapters on the policy's base."""
    kind, shape = config.method.critic, config.shape
    if kind == "own":
        alone = replace(config, adapter=None, four_bit=None, method=PLAIN)
        # `tied` stands for a model without output embeddings: a critic has a value head instead.
        return build_decoder(replace(alone, shape=replace(shape, tied=True)), allocator)
    if kind == "shared":
        bare = [_without_adapters(layer) for layer in policy.layers]
        critic = replace(policy, layers=bare, critic=None, idle=[])
        _add_adapter(critic, shape, config, allocator)
        return critic
    return None


def _without_adapters(layer: Layer) -> Layer:
    experts = None if layer.experts is None else replace(layer.experts, adapters={})
    return replace(layer, adapters={}, experts=experts)


_LAYER = re.compile(r"\.layers\.(\d+)\.")


def is_frozen(name: str, freeze: Freeze) -> bool:
    """Return True if `freeze` covers a parameter, as in `training/models/freeze.py`."""
    layer = _LAYER.search(name)
    return (
        (layer is not None and int(layer[1]) < freeze.layers)
        or (freeze.embeddings and name == "model.embed_tokens.weight")
        or any(re.search(pattern, name) for pattern in freeze.patterns)
    )


def _has_prefix(adapter: Adapter | None) -> bool:
    return isinstance(adapter, SoftPromptCost) and adapter.prefix


def base_dtype(config: MemoryConfig) -> str:
    """Return the data type of the base: fp32 if it is trained and ZeRO keeps no fp32 copy of it."""
    if config.frozen:
        return config.frozen
    if config.adapter is None and not config.zero:
        return "fp32"
    return config.precision


def _add_adapter(
    decoder: Decoder, shape: ModelShape, config: MemoryConfig, allocator: AllocatorSimulator
) -> None:
    """Add the weights of the adapter to the model: in fp32, or in the job's precision with ZeRO."""
    dtype = config.precision if config.zero else "fp32"
    adapter = config.adapter

    def fresh(rows: int, columns: int = 0) -> SimulatedParameter:
        count = rows * (columns or 1)
        storage = SimulatedStorage(allocator, count * SIZE[dtype])
        return SimulatedParameter(count, dtype, width=columns, storage=storage)

    if isinstance(adapter, SoftPromptCost):
        decoder.virtual = fresh(adapter.learned)
        return
    _train_in_full(decoder, set(saved_weights(adapter, shape)), fresh)
    _add_token_rows(decoder, shape, fresh, allocator)
    for index, layer in enumerate(decoder.layers):
        if isinstance(adapter, LoraCost):
            _add_low_rank(layer, index, adapter, shape, fresh)
        elif isinstance(adapter, LowRankFactors):
            for name, at_input in adapter.targets(shape).items():
                layer.adapters[name] = (fresh(shape.linears[name][at_input]),)
        elif isinstance(adapter, BottleneckCost):
            for name in adapter.after:
                size, hidden = adapter.size, shape.hidden
                down, up = fresh(size, hidden), fresh(hidden, size)
                layer.adapters[name] = (down, fresh(size), up, fresh(hidden))


def _add_low_rank(
    layer: Layer,
    index: int,
    adapter: LoraCost,
    shape: ModelShape,
    fresh: Callable[..., SimulatedParameter],
) -> None:
    """Add the matrices of LoRA to a layer, and DoRA's magnitudes.

    Args:
        layer: Changed in place.
        index: Index of the layer.
        adapter: The adapter.
        shape: Shape of the model.
        fresh: Function that returns a trained matrix.
    """
    for name in adapter.targets(shape) if adapter.adapts(index) else ():
        outputs, inputs = shape.linears[name]
        pair = (fresh(adapter.r, inputs), fresh(outputs, adapter.r))
        layer.adapters[name] = (*pair, fresh(outputs)) if adapter.dora else pair
    if layer.experts is not None:
        for name, rank in adapter.experts:
            down, up = low_rank_sizes(name, rank, shape)
            layer.experts.adapters[name] = (fresh(down), fresh(up))


def _add_token_rows(
    decoder: Decoder,
    shape: ModelShape,
    fresh: Callable[[int, int], SimulatedParameter],
    allocator: AllocatorSimulator,
) -> None:
    """Add the trained rows of added tokens (PEFT's `TrainableTokensLayer`).

    A forward pass writes them into a copy of the matrix, which has a gradient as large.

    Args:
        decoder: Changed in place.
        shape: Shape of the model.
        fresh: Function that returns a trained matrix.
        allocator: Counts the copy and its gradient.
    """
    if not isinstance(decoder.adapter, LoraCost):
        return
    rows, table = trained_token_rows(decoder.adapter, shape), decoder.embed
    if not rows:
        return
    decoder.idle.append(fresh(rows, shape.hidden))
    for _ in range(2):
        storage = SimulatedStorage(allocator, table.count * SIZE[table.dtype])
        decoder.idle.append(SimulatedParameter(table.count, table.dtype, False, storage=storage))


def _train_in_full(
    decoder: Decoder, names: set[str], fresh: Callable[[int, int], SimulatedParameter]
) -> None:
    """Replace some weights by trainable copies; the originals stay allocated (PEFT)."""

    def copied(name: str, weight: SimulatedParameter) -> SimulatedParameter:
        if name not in names:
            return weight
        decoder.idle.append(weight)
        return fresh(weight.count // (weight.width or 1), weight.width)

    decoder.embed, decoder.head = (
        copied("model.embed_tokens", decoder.embed),
        copied("lm_head", decoder.head),
    )
    decoder.norm = copied("model.norm", decoder.norm)
    for layer in decoder.layers:
        for weights in (layer.linears, layer.norms):
            weights |= {name: copied(name, weight) for name, weight in weights.items()}


def all_weights(decoder: Decoder) -> Iterator[SimulatedParameter]:
    """Iterate over all weights in the order of `model.parameters()`, a critic's last."""
    seen: set[int] = set()
    for part in (decoder, decoder.critic):
        for weight in () if part is None else _weights(part):
            if id(weight) not in seen:
                seen.add(id(weight))
                yield weight


def _weights(decoder: Decoder) -> Iterator[SimulatedParameter]:
    if decoder.virtual is not None:
        yield decoder.virtual
    yield decoder.embed
    for layer in decoder.layers:
        yield from layer.weights()
    yield decoder.norm
    if decoder.head is not decoder.embed:
        yield decoder.head
    yield from decoder.idle
