"""Adapters in the forward pass: LoRA, DoRA, IA3, bottleneck adapters and soft prompts.

Each function repeats the operations of PEFT's layer (`peft/tuners/lora/layer.py`, `lora/dora.py`,
`ia3/layer.py`) or of `training/adapters`, because the order of casts and additions decides which
intermediate results autograd saves.
"""

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
"""Block sizes of bitsandbytes' NF4: weights per scale and, with double quantization, scales per
scale of the second level."""


@dataclass(frozen=True)
class FourBitLayout:
    """Base model stored in 4 bits (QLoRA, arXiv:2305.14314).

    Attributes:
        double: True if the scales are quantized too (double quantization).
        compute: Data type that weights are dequantized to for each product.
        widens: True if the weights outside the 4-bit layers are cast to fp32, as
            `peft.prepare_model_for_kbit_training` does.
    """

    double: bool
    compute: str
    widens: bool

    def packed_bytes(self, count: int) -> int:
        """Return the bytes of `count` weights together with their scales."""
        blocks = -(-count // _BLOCK)
        scales = blocks + 4 * (-(-blocks // _OUTER_BLOCK) + 257) if self.double else 4 * blocks
        return count // 2 + scales + 4 * 16


@dataclass(frozen=True)
class LoraCost:
    """Low-rank updates of linear layers (LoRA, arXiv:2106.09685).

    Attributes:
        r: Rank.
        modules: Suffixes of the names of adapted modules; None for all linear layers but the head.
        dropout: True if the input of the update passes through dropout.
        dora: True if a magnitude is trained for each output (DoRA, arXiv:2402.09353).
        saved: Suffixes of the names of modules trained in full (`modules_to_save`).
        scored: True for AdaLoRA (arXiv:2303.10512), which trains singular values and keeps an
            importance score of each weight.
        layers: Indices of the adapted decoder layers; None for all.
        tokens: Added tokens whose rows are trained.
        experts: Rank of the update of each adapted weight of experts and router, by name.
    """

    r: int
    modules: tuple[str, ...] | None = None
    dropout: bool = False
    dora: bool = False
    saved: tuple[str, ...] = ()
    scored: bool = False
    layers: tuple[int, ...] | None = None
    tokens: int = 0
    experts: tuple[tuple[str, int], ...] = ()

    def adapts(self, layer: int) -> bool:
        """Return True if the decoder layer of this index is adapted."""
        return self.layers is None or layer in self.layers

    def targets(self, shape: ModelShape) -> list[str]:
        """Return the names of the adapted linear layers of one decoder layer."""
        if self.modules is None:
            return list(shape.linears)
        return [n for n in shape.linears if any(n.endswith(m) for m in self.modules)]


@dataclass(frozen=True)
class BottleneckCost:
    """Bottleneck adapters after or parallel to sublayers (arXiv:1902.00751, arXiv:2110.04366).

    Attributes:
        size: Width of the bottleneck.
        after: Sublayers that have one: `attention`, `mlp`.
        parallel: True if the adapter reads the input of the sublayer, not its output.
    """

    size: int
    after: tuple[str, ...]
    parallel: bool


@dataclass(frozen=True)
class SoftPromptCost:
    """Virtual tokens: prompt tuning, P-tuning and prefix tuning.

    Attributes:
        tokens: Number of virtual tokens.
        learned: Number of trained weights, those of the reparameterization network included.
        prefix: True if they precede the keys and values of every layer (arXiv:2101.00190), not
            the embedded input (arXiv:2104.08691).
    """

    tokens: int
    learned: int
    prefix: bool


@dataclass(frozen=True)
class LowRankFactors:
    """Factors that scale the inputs or outputs of linear layers (IA3, arXiv:2205.05638).

    Attributes:
        modules: Suffixes of the names of adapted modules.
        inputs: Suffixes of those whose inputs are scaled (`feedforward_modules`).
        saved: Suffixes of the names of modules trained in full (`modules_to_save`).
    """

    modules: tuple[str, ...]
    inputs: tuple[str, ...]
    saved: tuple[str, ...] = ()

    def targets(self, shape: ModelShape) -> dict[str, bool]:
        """Return the adapted linear layers of one decoder layer: True if the input is scaled."""
        return {
            name: any(name.endswith(m) for m in self.inputs)
            for name in shape.linears
            if any(name.endswith(m) for m in self.modules)
        }


def trained_token_rows(adapter: LoraCost, shape: ModelShape) -> int:
    """Return the trained rows of added tokens in the embeddings that are not trained in full."""
    if not adapter.tokens:
        return 0
    ends = (
        ["model.embed_tokens"] if shape.tied or shape.scores else ["model.embed_tokens", "lm_head"]
    )
    saved = saved_weights(adapter, shape)
    return adapter.tokens * sum(end not in saved for end in ends)


Adapter = LoraCost | BottleneckCost | SoftPromptCost | LowRankFactors


def saved_weights(adapter: Adapter | None, shape: ModelShape) -> dict[str, int]:
    """Return the elements of the modules that an adapter trains in full, by module name.

    A module of a decoder layer is listed once, with the elements of one layer. PEFT trains a copy
    of each module and keeps the original (`ModulesToSaveWrapper`).
    """
    ends = adapter.saved if isinstance(adapter, LoraCost | LowRankFactors) else ()
    tables = dict.fromkeys(("model.embed_tokens", "lm_head"), shape.vocab * shape.hidden)
    linears = {name: rows * columns for name, (rows, columns) in shape.linears.items()}
    counts = {**tables, "model.norm": shape.hidden, **linears, **shape.norms}
    return {n: count for n, count in counts.items() if any(n.endswith(end) for end in ends)}


def adapted_linear(
    tape: AutogradSimulator,
    x: SimulatedTensor,
    weight: SimulatedParameter,
    width: int,
    pair: tuple[SimulatedParameter, ...] | None,
    lora: LoraCost | None,
    four_bit: FourBitLayout | None,
) -> SimulatedTensor:
    """Apply a linear layer, dequantized if it is in 4 bits, and the LoRA update on top of it.

    Args:
        tape: Records the operations.
        x: Input, `[rows, length, width]`.
        weight: Weight of the base layer.
        width: Number of input features.
        pair: LoRA's A and B (and DoRA's magnitude); None if the layer is not adapted.
        lora: Settings of the update.
        four_bit: Layout of the base weight if it is in 4 bits.

    Returns:
        The output, `[rows, length, outputs]`.
    """
    if four_bit is not None:
        y = quantized_linear(tape, x, weight, width, four_bit.compute)
    else:
        y = linear(tape, x, weight, width)
    if lora is None or pair is None:
        return y
    before = y.dtype
    if four_bit is not None:
        # `Linear4bit.forward` in `peft/tuners/lora/bnb.py` clones the result as a precaution: a
        # backward pass through a manipulated view could fail.
        y = copy(tape, y)
    # The 4-bit layer leaves the cast of its input to CUDA's autocast (it asks
    # `torch.is_autocast_enabled()`, which means CUDA); the others cast it themselves.
    if four_bit is None or not (tape.autocast and tape.device == "cuda"):
        x = cast(tape, x, pair[0].dtype)
    if lora.dropout:
        x = _dropout(tape, x)
    if lora.dora:
        base_weight = partial(_base_weight, tape, weight, x.dtype, four_bit)
        y = add(tape, y, _dora(tape, x, y, base_weight, pair, lora))
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
    base_weight: Callable[[], SimulatedParameter],
    trained: tuple[SimulatedParameter, ...],
    lora: LoraCost,
) -> SimulatedTensor:
    """Return `(m - 1) * y + m * update(x)`, where m is the magnitude over the norm of W + BA.

    Models `peft/tuners/lora/dora.py`, which computes BA by applying A and B to an identity matrix
    and materializes W + BA for the norm. Both have the size of W and stay until the layer is done,
    which is why DoRA needs far more memory than LoRA.
    """
    down, up, magnitude = trained
    width, outputs = down.width, magnitude.count
    unit = tape.new(width * width, down.dtype)
    update = linear(tape, linear(tape, unit, down, width), up, lora.r)
    del unit
    update = cast(tape, update, x.dtype)
    base = base_weight()
    scaled, summed = tape.new(update.count, x.dtype), tape.new(update.count, x.dtype)
    del scaled, summed
    share = tape.record_op(
        tape.new(outputs, "fp32"), (as_tensor(magnitude),), lambda g: (tape.new(outputs, "fp32"),)
    )
    change = linear(tape, linear(tape, x, down, width), up, lora.r)
    if lora.dropout:
        # The base output was computed without dropout: PEFT applies the base again to the
        # dropped-out input.
        y = linear(tape, x, base, width)
    share_minus_one = tape.record_op(tape.new(outputs, "fp32"), (share,), lambda g: (g,))
    base_term = mul(tape, y, share_minus_one)
    return add(tape, base_term, scale(tape, mul(tape, change, share)))


def _base_weight(
    tape: AutogradSimulator, weight: SimulatedParameter, dtype: str, four_bit: FourBitLayout | None
) -> SimulatedParameter:
    """Return the base weight in `dtype`: dequantized, cast, or without a copy."""
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
    """Apply a linear layer with IA3's factors on its input or its output.

    Args:
        tape: Records the operations.
        x: Input, `[rows, length, width]`.
        weight: Weight of the base layer.
        width: Number of input features.
        factors: One factor per input feature if there are `width` of them, else one per output.
        four_bit: Layout of the base weight if it is in 4 bits.

    Returns:
        The output, `[rows, length, outputs]`.
    """
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
    """Return `after + scale * up(activation(down(input)))`.

    Args:
        tape: Records the operations.
        adapter: Its `parallel` decides whether the input is `before` or `after`.
        pair: Weights and biases of the down and the up projection.
        before: Input of the sublayer, `[rows, length, hidden]`.
        after: Output of the sublayer, `[rows, length, hidden]`.
    """
    down, down_bias, up, up_bias = pair
    x = before if adapter.parallel else after
    inner = add_bias(tape, linear(tape, cast(tape, x, down.dtype), down, down.width), down_bias)
    change = scale(
        tape, add_bias(tape, linear(tape, activation(tape, inner), up, up.width), up_bias)
    )
    return add(tape, after, cast(tape, change, after.dtype))


def _dropout(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    """Return `x * mask / (1 - p)`.

    CUDA's fused kernel saves a boolean mask; the CPU path multiplies by a mask of the input's type.
    """
    mask = tape.new(x.count, "bool" if tape.device == "cuda" else x.dtype)
    if tape.device == "cuda":
        y = tape.new(x.count, x.dtype)
        return tape.record_op(y, (x,), lambda g, saved: (tape.new(g.count, g.dtype),), mask)
    return mul(tape, x, mask)
