"""The weights of a job's model on one device, before any engine divides them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from launch.plan.memory.adapters import Lora
from launch.plan.memory.attention import Heads
from launch.plan.memory.decoder import Decoder, Layer
from launch.plan.memory.tape import SIZE, Meter, Storage, Weight
from launch.plan.shape import Shape


@dataclass(frozen=True)
class Recipe:
    """What of a job decides its memory.

    Attributes:
        shape: Of the model, with as many layers as are rehearsed.
        device: `cuda`, `neuron` or `cpu`.
        rows: Micro-batch.
        length: Tokens per row.
        packed: Whether rows hold several documents.
        attention: As the job names it.
        checkpointing: Whether layers are computed again.
        precision: `fp32`, `bf16` or `fp16`.
        adapter: Low-rank adapter, if any.
        accumulates: Whether gradients of earlier micro-batches are there already.
        optimizer: As the job names it.
        zero: ZeRO stage.
        fsdp: Whether FSDP2 shards everything.
        world: Devices that share the work.
        offload: Where optimizer states (and, with ZeRO 3, weights) rest between steps.
        evaluates: Whether there are held-out rows.
        bucket: Elements that ZeRO sends at once.
        ahead: Elements that ZeRO 3 fetches ahead.
    """

    shape: Shape
    device: str
    rows: int
    length: int
    packed: bool
    attention: str
    checkpointing: bool
    precision: str
    adapter: Lora | None
    accumulates: bool
    optimizer: str
    zero: int
    world: int
    fsdp: bool = False
    offload: str = "none"
    evaluates: bool = True
    bucket: int = 200_000_000
    ahead: int = 50_000_000


def build(recipe: Recipe, meter: Meter) -> Decoder:
    """The model, its weights allocated as they lie without sharding."""
    shape, adapter = recipe.shape, recipe.adapter
    base = base_dtype(recipe)
    learns = adapter is None

    def weight(count: int, width: int = 0, dtype: str = base) -> Weight:
        storage = Storage(meter, count * SIZE[dtype])
        return Weight(count, dtype, learns, width, storage=storage)

    def matrix(rows: int, columns: int) -> Weight:
        if adapter is None or not adapter.quantized:
            return weight(rows * columns, columns)
        packed = Storage(meter, adapter.packed_bytes(rows * columns))
        return Weight(rows * columns, "uint8", False, columns, storage=packed)

    rest = "fp32" if adapter is not None and adapter.quantized and not recipe.zero else base
    with meter.belongs_to("weights"):
        embed = weight(shape.vocab * shape.hidden, shape.hidden, rest)
        layers = [
            Layer(
                linears={
                    name: matrix(rows, columns) for name, (rows, columns) in shape.linears.items()
                },
                norms={name: weight(count, dtype=rest) for name, count in shape.norms.items()},
                biases={name: weight(count, dtype=rest) for name, count in shape.biases.items()},
            )
            for _ in range(shape.layers)
        ]
        norm = weight(shape.hidden, dtype=rest)
        head = embed if shape.tied else weight(embed.count, shape.hidden, rest)
        decoder = Decoder(
            embed=embed,
            layers=layers,
            norm=norm,
            head=head,
            size=Heads(recipe.rows, recipe.length, shape.heads, shape.kv_heads, shape.head_dim),
            hidden=shape.hidden,
            intermediate=shape.intermediate,
            attention=recipe.attention,
            packed=recipe.packed,
            checkpointing=recipe.checkpointing,
            input_learns=adapter is not None and recipe.checkpointing,
        )
        if adapter is not None:
            _adapt(decoder, shape, adapter, meter, base if recipe.zero else "fp32")
    return decoder


def base_dtype(recipe: Recipe) -> str:
    """How the base lies in memory: fp32 where it learns and no engine keeps an fp32 copy."""
    if recipe.adapter is None and not recipe.zero:
        return "fp32"
    return recipe.precision


def _adapt(decoder: Decoder, shape: Shape, adapter: Lora, meter: Meter, dtype: str) -> None:
    for layer in decoder.layers:
        for name in adapter.targets(shape):
            outputs, inputs = shape.linears[name]
            down, up = (
                Weight(
                    rows * columns,
                    dtype,
                    width=columns,
                    storage=Storage(meter, rows * columns * SIZE[dtype]),
                )
                for rows, columns in ((adapter.r, inputs), (outputs, adapter.r))
            )
            layer.adapters[name] = (down, up)
    decoder.adapter = adapter


def all_weights(decoder: Decoder) -> Iterator[Weight]:
    """Every weight, in the order of the model's parameters."""
    yield decoder.embed
    for layer in decoder.layers:
        yield from layer.weights()
    yield decoder.norm
    if decoder.head is not decoder.embed:
        yield decoder.head
