"""Adapters in the forward pass, as PEFT and `training/adapters` write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from planning.memory.autograd import AutogradSimulator
from planning.memory.ops import (
    activation,
    add,
    add_bias,
    as_tensor,
    cast,
    copy,
    linear,
    mul,
    quantized_linear,
    scale,
)
from planning.memory.tensors import SimulatedParameter, SimulatedTensor
from planning.model_shape import ModelShape

_BLOCK, _OUTER_BLOCK = 64, 256
"""bitsandbytes' NF4: weights that share a scale; with double quantization, scales that do."""


@dataclass(frozen=True)
class FourBitLayout:
    """A base that rests in 4 bits.

    Attributes:
        double: Whether its scales are quantized too.
        compute: Type that weights are expanded to for each product.
        widens: Whether what is not in 4 bits is made fp32 (`prepare_model_for_kbit_training`).
    """

    double: bool
    compute: str
    widens: bool

    def packed_bytes(self, count: int) -> int:
        """A weight with its scales."""
        blocks = -(-count // _BLOCK)
        scales = blocks + 4 * (-(-blocks // _OUTER_BLOCK) + 257) if self.double else 4 * blocks
        return count // 2 + scales + 4 * 16


@dataclass(frozen=True)
class LoraCost:
    """Low-rank updates of linear maps.

    Attributes:
        r: Rank.
        modules: Ends of module names; None for every linear map but the head.
        dropout: Whether there is any.
        dora: Whether a magnitude is learned for each output (Liu et al. 2024, arXiv:2402.09353).
        saved: Ends of the names of modules that are trained in full.
        scored: Whether singular values stand between its matrices, and all are scored (AdaLoRA).
    """

    r: int
    modules: tuple[str, ...] | None = None
    dropout: bool = False
    dora: bool = False
    saved: tuple[str, ...] = ()
    scored: bool = False

    def targets(self, shape: ModelShape) -> list[str]:
        """The linear maps of a layer that are adapted."""
        if self.modules is None:
            return list(shape.linears)
        return [n for n in shape.linears if any(n.endswith(m) for m in self.modules)]


@dataclass(frozen=True)
class BottleneckCost:
    """Small networks behind or beside sublayers.

    Attributes:
        size: Their width.
        after: The sublayers that have one: `attention`, `mlp`.
        parallel: Whether they read what the sublayer reads.
    """

    size: int
    after: tuple[str, ...]
    parallel: bool


@dataclass(frozen=True)
class SoftPromptCost:
    """Trained vectors before a row, or before its keys and values.

    Attributes:
        tokens: How many.
        learned: Weights that are trained, the network behind the vectors included.
        prefix: Whether they stand before keys and values.
    """

    tokens: int
    learned: int
    prefix: bool


@dataclass(frozen=True)
class LowRankFactors:
    """IA3: linear maps whose outputs, or inputs, are multiplied by one learned factor per channel.

    Attributes:
        modules: Ends of module names.
        inputs: Those of them whose inputs are multiplied.
        saved: Ends of the names of modules that are trained in full.
    """

    modules: tuple[str, ...]
    inputs: tuple[str, ...]
    saved: tuple[str, ...] = ()

    def targets(self, shape: ModelShape) -> dict[str, bool]:
        """The linear maps of a layer that are adapted, and whether at their input."""
        return {
            name: any(name.endswith(m) for m in self.inputs)
            for name in shape.linears
            if any(name.endswith(m) for m in self.modules)
        }


Adapter = LoraCost | BottleneckCost | SoftPromptCost | LowRankFactors


def saved_weights(adapter: Adapter | None, shape: ModelShape) -> dict[str, int]:
    """Elements of what an adapter trains in full, by name; of a layer's, one of each stands here.

    PEFT makes a copy of each, and the original stays where it is.
    """
    ends = adapter.saved if isinstance(adapter, LoraCost | LowRankFactors) else ()
    tables = dict.fromkeys(("model.embed_tokens", "lm_head"), shape.vocab * shape.hidden)
    linears = {name: rows * columns for name, (rows, columns) in shape.linears.items()}
    found = {**tables, "model.norm": shape.hidden, **linears, **shape.norms}
    return {n: count for n, count in found.items() if any(n.endswith(end) for end in ends)}


def adapted_linear(
    tape: AutogradSimulator,
    x: SimulatedTensor,
    weight: SimulatedParameter,
    width: int,
    pair: tuple[SimulatedParameter, ...] | None,
    lora: LoraCost | None,
    four_bit: FourBitLayout | None,
) -> SimulatedTensor:
    """A linear map, from 4 bits where it rests so, with what LoRA adds to it."""
    if four_bit is not None:
        y = quantized_linear(tape, x, weight, width, four_bit.compute)
    else:
        y = linear(tape, x, weight, width)
    if lora is None or pair is None:
        return y
    before = y.dtype
    if four_bit is not None:
        y = copy(tape, y)
    if four_bit is None or not (tape.autocast and tape.device == "cuda"):
        x = cast(tape, x, pair[0].dtype)
    if lora.dropout:
        x = _dropout(tape, x)
    if lora.dora:
        whole = partial(_in_type, tape, weight, x.dtype, four_bit)
        y = add(tape, y, _dora(tape, x, y, whole, pair, lora))
        return cast(tape, y, before)
    change = scale(tape, linear(tape, linear(tape, x, pair[0], width), pair[1], lora.r))
    if four_bit is not None:
        change = cast(tape, change, before)
    y = add(tape, y, change)
    return cast(tape, y, before)


def _dora(
    tape: AutogradSimulator,
    x: SimulatedTensor,
    y: SimulatedTensor,
    whole: Callable[[], SimulatedParameter],
    trained: tuple[SimulatedParameter, ...],
    lora: LoraCost,
) -> SimulatedTensor:
    """`(m - 1) * y + m * change`, with m the learned magnitudes over the norms of the sum.

    After `peft/tuners/lora/dora.py`: the whole update is multiplied out of a unit matrix, and the
    sum with the base is written out for its norms. Both lie there until the layer is done.
    """
    down, up, magnitude = trained
    width, outputs = down.width, magnitude.count
    unit = tape.new(width * width, down.dtype)
    update = linear(tape, linear(tape, unit, down, width), up, lora.r)
    del unit
    update = cast(tape, update, x.dtype)
    base = whole()
    scaled, summed = tape.new(update.count, x.dtype), tape.new(update.count, x.dtype)
    del scaled, summed
    share = tape.record_op(
        tape.new(outputs, "fp32"), (as_tensor(magnitude),), lambda g: (tape.new(outputs, "fp32"),)
    )
    change = linear(tape, linear(tape, x, down, width), up, lora.r)
    if lora.dropout:
        # What dropout left of the input goes through the base once more.
        y = linear(tape, x, base, width)
    less = tape.record_op(tape.new(outputs, "fp32"), (share,), lambda g: (g,))
    saved = mul(tape, y, less)
    return add(tape, saved, scale(tape, mul(tape, change, share)))


def _in_type(
    tape: AutogradSimulator, weight: SimulatedParameter, dtype: str, four_bit: FourBitLayout | None
) -> SimulatedParameter:
    """A base weight in the type of the input; itself where it has that already."""
    made: SimulatedTensor | None = None
    if four_bit is not None:
        made = cast(tape, tape.new(weight.count, four_bit.compute), dtype)
    elif weight.dtype != dtype:
        made = tape.new(weight.count, dtype)
    storage = weight.storage if made is None else made.storage
    return SimulatedParameter(
        weight.count, dtype, requires_grad=False, width=weight.width, storage=storage
    )


def scaled_linear(
    tape: AutogradSimulator,
    x: SimulatedTensor,
    weight: SimulatedParameter,
    width: int,
    factors: SimulatedParameter,
    four_bit: FourBitLayout | None,
) -> SimulatedTensor:
    """A linear map with IA3's factors on its input, where they are as wide as that, or output."""
    before = x.dtype
    if factors.count == width:
        x = cast(tape, mul(tape, x, as_tensor(factors)), before)
    y = adapted_linear(tape, x, weight, width, None, None, four_bit)
    return y if factors.count == width else cast(tape, mul(tape, y, as_tensor(factors)), y.dtype)


def bottleneck(
    tape: AutogradSimulator,
    adapter: BottleneckCost,
    pair: tuple[SimulatedParameter, ...],
    before: SimulatedTensor,
    after: SimulatedTensor,
) -> SimulatedTensor:
    """`after + s * up(a(down(read)))`, where `read` is what the sublayer says or what it reads."""
    down, down_bias, up, up_bias = pair
    read = before if adapter.parallel else after
    inner = add_bias(tape, linear(tape, cast(tape, read, down.dtype), down, down.width), down_bias)
    change = scale(
        tape, add_bias(tape, linear(tape, activation(tape, inner), up, up.width), up_bias)
    )
    return add(tape, after, cast(tape, change, after.dtype))


def _dropout(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    """`x * mask / (1 - p)`; a CPU makes the mask of the input's type."""
    mask = tape.new(x.count, "bool" if tape.device == "cuda" else x.dtype)
    if tape.device == "cuda":
        y = tape.new(x.count, x.dtype)
        return tape.record_op(y, (x,), lambda g, saved: (tape.new(g.count, g.dtype),), mask)
    return mul(tape, x, mask)
