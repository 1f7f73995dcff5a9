"""What each operation of PyTorch allocates, keeps for its backward pass, and allocates there.

After PyTorch 2.13: `derivatives.yaml`, `FunctionsManual.cpp` and the attention kernels. Counts are
of elements; views cost nothing and are left out.
"""

from __future__ import annotations

from planning.memory.autograd import AutogradSimulator
from planning.memory.tensors import Grads, SimulatedParameter, SimulatedTensor

_WIDTH = {"fp32": 2, "fp16": 1, "bf16": 1}


def promote_types(a: str, b: str) -> str:
    """The type in which two tensors are computed together."""
    return a if _WIDTH[a] >= _WIDTH[b] else b


# --- types ------------------------------------------------------------------------------------


def cast(tape: AutogradSimulator, x: SimulatedTensor, dtype: str) -> SimulatedTensor:
    """`x.to(dtype)`: x itself where it has that type."""
    if x.dtype == dtype:
        return x
    before = x.dtype
    return tape.record_op(tape.new(x.count, dtype), (x,), lambda g: (tape.new(g.count, before),))


def autocast_input(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    """`x` as autocast hands it to a matrix product: cast anew each time."""
    return cast(tape, x, tape.autocast) if tape.autocast and x.dtype == "fp32" else x


def as_tensor(weight: SimulatedParameter) -> SimulatedTensor:
    """A weight as an operation sees it."""
    return SimulatedTensor(
        weight.count, weight.dtype, weight.storage, weight if weight.requires_grad else None
    )


def autocast_weight(tape: AutogradSimulator, weight: SimulatedParameter) -> SimulatedTensor:
    """A weight as autocast hands it to a matrix product: one that requires_grad is cast once."""
    if tape.autocast and weight.dtype == "fp32":
        return tape.cast_once(weight, lambda: autocast_input(tape, as_tensor(weight)))
    return as_tensor(weight)


# --- products ---------------------------------------------------------------------------------


def linear(
    tape: AutogradSimulator, x: SimulatedTensor, weight: SimulatedParameter, width: int
) -> SimulatedTensor:
    """`F.linear` of rows that are `width` wide.

    Keeps its input for the weight's gradient, the weight for the input's. A bias is added within
    the product.
    """
    x, w = autocast_input(tape, x), autocast_weight(tape, weight)
    wants_x, wants_w = x.node is not None, w.node is not None
    x_count, w_count, dtype = x.count, w.count, x.dtype

    def backward(g: SimulatedTensor, *saved: SimulatedTensor) -> Grads:
        with tape.gathered_weight(weight):
            return (
                tape.new(x_count, dtype) if wants_x else None,
                tape.new(w_count, dtype) if wants_w else None,
            )

    saved = (w,) * wants_x + (x,) * wants_w
    with tape.gathered_weight(weight):
        y = tape.new(x_count // width * (w_count // width), dtype)
    return tape.record_op(y, (x, w), backward, *saved)


def quantized_linear(
    tape: AutogradSimulator,
    x: SimulatedTensor,
    weight: SimulatedParameter,
    width: int,
    compute: str,
) -> SimulatedTensor:
    """`Linear4bit`: the weight is expanded for each product, forward and backward."""
    before = x.dtype
    x = cast(tape, x, compute)
    count = x.count

    def backward(g: SimulatedTensor) -> Grads:
        expanded = tape.new(weight.count, compute)
        made = tape.new(count, compute)
        del expanded
        return (made,)

    expanded = tape.new(weight.count, compute)
    y = tape.record_op(tape.new(count // width * (weight.count // width), compute), (x,), backward)
    del expanded
    return cast(tape, y, before)


def add_bias(
    tape: AutogradSimulator, x: SimulatedTensor, bias: SimulatedParameter
) -> SimulatedTensor:
    """The bias of a linear map: added within the product, so only its gradient takes bytes."""
    if not tape.needs_grad(as_tensor(bias)):
        return x
    count = bias.count

    def backward(g: SimulatedTensor) -> Grads:
        return g, tape.new(count, g.dtype)

    return tape.record_op(
        SimulatedTensor(x.count, x.dtype, x.storage), (x, as_tensor(bias)), backward
    )


# --- one by one -------------------------------------------------------------------------------


def add(tape: AutogradSimulator, a: SimulatedTensor, b: SimulatedTensor) -> SimulatedTensor:
    """`a + b` of one shape: hands one gradient to both."""
    dtype = promote_types(a.dtype, b.dtype)
    types = (a.dtype, b.dtype)

    def backward(g: SimulatedTensor) -> Grads:
        return tuple(g if own == dtype else tape.new(g.count, own) for own in types)

    return tape.record_op(tape.new(a.count, dtype), (a, b), backward)


def subtract(tape: AutogradSimulator, a: SimulatedTensor, b: SimulatedTensor) -> SimulatedTensor:
    """`a - b` of one shape and type: hands on its gradient, and the negative of it."""

    def backward(g: SimulatedTensor) -> Grads:
        return g, tape.new(g.count, g.dtype)

    return tape.record_op(tape.new(a.count, a.dtype), (a, b), backward)


def mul(tape: AutogradSimulator, a: SimulatedTensor, b: SimulatedTensor) -> SimulatedTensor:
    """`a * b`, where `b` may be smaller and is spread over `a`; each is saved for the other."""
    dtype = promote_types(a.dtype, b.dtype)
    wanted = (a.node is not None, b.node is not None)
    sizes = ((a.count, a.dtype), (b.count, b.dtype))

    def backward(g: SimulatedTensor, *saved: SimulatedTensor) -> Grads:
        found: list[SimulatedTensor | None] = [None, None]
        for index, (count, own) in enumerate(sizes):
            if wanted[index]:
                made = tape.new(g.count, dtype)
                if count < g.count:
                    made = tape.new(count, dtype)
                found[index] = made if own == dtype else tape.new(count, own)
                del made
        return tuple(found)

    saved = (b,) * wanted[0] + (a,) * wanted[1]
    return tape.record_op(tape.new(a.count, dtype), (a, b), backward, *saved)


def scale(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    """`x` times a number, or its negative."""
    return tape.record_op(tape.new(x.count, x.dtype), (x,), lambda g: (tape.new(g.count, g.dtype),))


def activation(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    """SiLU, GELU: keeps its input."""
    y = tape.new(x.count, x.dtype)
    return tape.record_op(y, (x,), lambda g, saved: (tape.new(g.count, g.dtype),), x)


def exp(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    """`x.exp()`: keeps its result."""
    y = tape.new(x.count, x.dtype)
    saved = SimulatedTensor(y.count, y.dtype, y.storage)
    return tape.record_op(y, (x,), lambda g, saved: (tape.new(g.count, g.dtype),), saved)


def reduce_sum(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    """`x.sum()`; its gradient is one number seen many times."""
    count, dtype = x.count, x.dtype
    return tape.record_op(
        tape.new(1, dtype), (x,), lambda g: (SimulatedTensor(count, dtype, g.storage),)
    )


def log_softmax(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    """Keeps its result."""
    soft = tape.new(x.count, x.dtype)
    saved = SimulatedTensor(x.count, x.dtype, soft.storage)
    return tape.record_op(soft, (x,), lambda g, saved: (tape.new(g.count, g.dtype),), saved)


def log_sum_exp(tape: AutogradSimulator, x: SimulatedTensor, rows: int) -> SimulatedTensor:
    """`x.logsumexp(-1)`: keeps both; its gradient's three steps are there at once."""
    tape.new(x.count, x.dtype)  # x less its largest, then to the power of e in place

    def backward(g: SimulatedTensor, *saved: SimulatedTensor) -> Grads:
        steps = [tape.new(saved[0].count, g.dtype) for _ in range(2)]
        made = tape.new(saved[0].count, g.dtype)
        del steps
        return (made,)

    y = tape.new(rows, x.dtype)
    return tape.record_op(y, (x,), backward, x, SimulatedTensor(rows, x.dtype, y.storage))


def gather(tape: AutogradSimulator, x: SimulatedTensor, ids: SimulatedTensor) -> SimulatedTensor:
    """`x.gather(-1, ids)`; its gradient is written into zeros."""
    count, dtype = x.count, x.dtype
    y = tape.new(ids.count, dtype)
    return tape.record_op(y, (x,), lambda g, *saved: (tape.new(count, dtype),), x, ids)


def masked_fill(
    tape: AutogradSimulator, x: SimulatedTensor, ids: SimulatedTensor
) -> SimulatedTensor:
    """`x.scatter(-1, ids, number)`: a copy, and another of the gradient."""
    y = tape.new(x.count, x.dtype)
    return tape.record_op(y, (x,), lambda g, saved: (tape.new(g.count, g.dtype),), ids)


def copy(tape: AutogradSimulator, x: SimulatedTensor, count: int | None = None) -> SimulatedTensor:
    """`x.contiguous()` or `x.reshape(…)` where that copies; `count` where it also cuts."""
    whole = x.count

    def backward(g: SimulatedTensor) -> Grads:
        return (g if g.count == whole else tape.new(whole, g.dtype),)

    return tape.record_op(tape.new(count or x.count, x.dtype), (x,), backward)


def cat(tape: AutogradSimulator, a: SimulatedTensor, b: SimulatedTensor) -> SimulatedTensor:
    """`torch.cat((a, b))`; backward hands each its part of the gradient."""
    counts = (a.count, b.count)

    def backward(g: SimulatedTensor) -> Grads:
        return tuple(SimulatedTensor(count, g.dtype, g.storage) for count in counts)

    return tape.record_op(
        tape.new(a.count + b.count, promote_types(a.dtype, b.dtype)), (a, b), backward
    )


# --- norms ------------------------------------------------------------------------------------


def rms_norm(
    tape: AutogradSimulator, x: SimulatedTensor, weight: SimulatedParameter
) -> SimulatedTensor:
    """RMSNorm as Transformers writes it: in fp32, step by step."""
    before, rows = x.dtype, x.count // weight.count
    x = cast(tape, x, "fp32")
    variance = _mean_of_squares(tape, x, rows)
    x = mul(tape, x, _rsqrt(tape, variance))
    return mul(tape, cast(tape, x, before), as_tensor(weight))


def _mean_of_squares(tape: AutogradSimulator, x: SimulatedTensor, rows: int) -> SimulatedTensor:
    def square_back(g: SimulatedTensor, saved: SimulatedTensor) -> Grads:
        # g * (2 * x.pow(1)): three tensors at once
        power, doubled = tape.new(g.count, g.dtype), tape.new(g.count, g.dtype)
        made = tape.new(g.count, g.dtype)
        del power, doubled
        return (made,)

    count = x.count
    squares = tape.record_op(tape.new(x.count, "fp32"), (x,), square_back, x)
    return tape.record_op(tape.new(rows, "fp32"), (squares,), lambda g: (tape.new(count, "fp32"),))


def _rsqrt(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    shifted = tape.record_op(tape.new(x.count, x.dtype), (x,), lambda g: (g,))
    y = tape.new(x.count, x.dtype)
    saved = SimulatedTensor(y.count, y.dtype, y.storage)
    return tape.record_op(y, (shifted,), lambda g, saved: (tape.new(g.count, g.dtype),), saved)


def layer_norm(
    tape: AutogradSimulator,
    x: SimulatedTensor,
    weight: SimulatedParameter,
    bias: SimulatedParameter,
) -> SimulatedTensor:
    """`F.layer_norm`: keeps its input and two numbers a row; autocast computes it in fp32."""
    if tape.autocast and tape.device == "cuda":
        x = cast(tape, x, "fp32")
    rows = x.count // weight.count
    mean, deviation = tape.new(rows, "fp32"), tape.new(rows, "fp32")
    count, dtype = x.count, x.dtype
    wanted = (x.node is not None, weight.requires_grad, bias.requires_grad)
    sizes = (count, weight.count, bias.count)

    def backward(g: SimulatedTensor, *saved: SimulatedTensor) -> Grads:
        return tuple(
            tape.new(size, dtype) if asked else None
            for asked, size in zip(wanted, sizes, strict=True)
        )

    y = tape.new(count, dtype)
    return tape.record_op(y, (x, as_tensor(weight), as_tensor(bias)), backward, x, mean, deviation)


# --- positions --------------------------------------------------------------------------------


def apply_rotary(
    tape: AutogradSimulator, x: SimulatedTensor, cos: SimulatedTensor, sin: SimulatedTensor
) -> SimulatedTensor:
    """`x * cos + rotate_half(x) * sin`."""
    return add(tape, mul(tape, x, cos), mul(tape, _rotate_half(tape, x), sin))


def _rotate_half(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    whole, half, dtype = x.count, x.count // 2, x.dtype

    def slice_back(g: SimulatedTensor) -> Grads:
        return (tape.new(whole, dtype),)  # zeros, with the slice written into them

    first = tape.record_op(SimulatedTensor(half, dtype, x.storage), (x,), slice_back)
    second = tape.record_op(SimulatedTensor(half, dtype, x.storage), (x,), slice_back)
    negated = scale(tape, second)

    def cat_back(g: SimulatedTensor) -> Grads:
        return SimulatedTensor(half, g.dtype, g.storage), SimulatedTensor(half, g.dtype, g.storage)

    return tape.record_op(tape.new(whole, dtype), (negated, first), cat_back)


# --- embeddings -------------------------------------------------------------------------------


def embedding(
    tape: AutogradSimulator, table: SimulatedParameter, tokens: int, width: int
) -> SimulatedTensor:
    """Rows of a table; its gradient is of the whole table."""
    count, dtype = table.count, table.dtype

    def backward(g: SimulatedTensor) -> Grads:
        with tape.gathered_weight(table):
            return (tape.new(count, dtype),)

    with tape.gathered_weight(table):
        rows = tape.new(tokens * width, dtype)
    return tape.record_op(rows, (as_tensor(table),), backward)
