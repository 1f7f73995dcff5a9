"""Operations of PyTorch: what each allocates, saves for its backward pass, and allocates there.

Models PyTorch 2.13: `tools/autograd/derivatives.yaml` says what an operation saves, and
`torch/csrc/autograd/FunctionsManual.cpp` which temporaries its backward pass has. Sizes are numbers
of elements. Views allocate nothing and are left out.
"""

from __future__ import annotations

from planning.memory.autograd import AutogradSimulator
from planning.memory.tensors import Grads, SimulatedParameter, SimulatedTensor

_WIDTH = {"fp32": 2, "fp16": 1, "bf16": 1}


def promote_types(a: str, b: str) -> str:
    """Return the data type of the result of an operation on two tensors."""
    return a if _WIDTH[a] >= _WIDTH[b] else b


# --- types ------------------------------------------------------------------------------------


def cast(tape: AutogradSimulator, x: SimulatedTensor, dtype: str) -> SimulatedTensor:
    """Return `x.to(dtype)`; `x` itself if it has that type.

    Args:
        tape: Records the operation.
        x: Input.
        dtype: Data type of the result.
    """
    if x.dtype == dtype:
        return x
    before = x.dtype
    return tape.record_op(tape.new(x.count, dtype), (x,), lambda g: (tape.new(g.count, before),))


def autocast_input(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    """Return `x` as autocast passes it to a matrix product: activations are cast every time."""
    return cast(tape, x, tape.autocast) if tape.autocast and x.dtype == "fp32" else x


def as_tensor(weight: SimulatedParameter) -> SimulatedTensor:
    """Return a weight as an operation reads it, connected to the graph if it is trained."""
    return SimulatedTensor(
        weight.count, weight.dtype, weight.storage, weight if weight.requires_grad else None
    )


def autocast_weight(tape: AutogradSimulator, weight: SimulatedParameter) -> SimulatedTensor:
    """Return a weight as autocast passes it to a matrix product; trained ones are cast once."""
    if tape.autocast and weight.dtype == "fp32":
        return tape.cast_once(weight, lambda: autocast_input(tape, as_tensor(weight)))
    return as_tensor(weight)


# --- products ---------------------------------------------------------------------------------


def linear(
    tape: AutogradSimulator, x: SimulatedTensor, weight: SimulatedParameter, width: int
) -> SimulatedTensor:
    """Apply `F.linear`.

    Saves the input for the gradient of the weight, and the weight for the gradient of the input. A
    bias is added inside the kernel and is not part of this function.

    Args:
        tape: Records the operation.
        x: Input, `[tokens, width]`.
        weight: Weight, `[outputs, width]`.
        width: Number of input features.
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
    """Apply `Linear4bit` of bitsandbytes: the weight is dequantized in forward and backward.

    Args:
        tape: Records the operation.
        x: Input, `[tokens, width]`.
        weight: Quantized weight.
        width: Number of input features.
        compute: Data type of the dequantized weight.
    """
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
    """Add a bias inside the preceding product, so that only its gradient allocates.

    Args:
        tape: Records the operation.
        x: Output of the product.
        bias: The bias.
    """
    if not tape.needs_grad(as_tensor(bias)):
        return x
    count = bias.count

    def backward(g: SimulatedTensor) -> Grads:
        return g, tape.new(count, g.dtype)

    return tape.record_op(
        SimulatedTensor(x.count, x.dtype, x.storage), (x, as_tensor(bias)), backward
    )


# --- element-wise -------------------------------------------------------------------------------


def add(tape: AutogradSimulator, a: SimulatedTensor, b: SimulatedTensor) -> SimulatedTensor:
    """Return `a + b` for equal shapes; both inputs share one gradient tensor.

    Args:
        tape: Records the operation.
        a: First input.
        b: Second input.
    """
    dtype = promote_types(a.dtype, b.dtype)
    types = (a.dtype, b.dtype)

    def backward(g: SimulatedTensor) -> Grads:
        return tuple(g if own == dtype else tape.new(g.count, own) for own in types)

    return tape.record_op(tape.new(a.count, dtype), (a, b), backward)


def subtract(tape: AutogradSimulator, a: SimulatedTensor, b: SimulatedTensor) -> SimulatedTensor:
    """Return `a - b` for equal shapes and types; the gradient of `b` is a new tensor.

    Args:
        tape: Records the operation.
        a: First input.
        b: Second input.
    """

    def backward(g: SimulatedTensor) -> Grads:
        return g, tape.new(g.count, g.dtype)

    return tape.record_op(tape.new(a.count, a.dtype), (a, b), backward)


def mul(tape: AutogradSimulator, a: SimulatedTensor, b: SimulatedTensor) -> SimulatedTensor:
    """Return `a * b`; each input is saved for the gradient of the other.

    Args:
        tape: Records the operation.
        a: First input.
        b: Second input; broadcast over `a` if it is smaller.
    """
    dtype = promote_types(a.dtype, b.dtype)
    wanted = (a.node is not None, b.node is not None)
    sizes = ((a.count, a.dtype), (b.count, b.dtype))

    def backward(g: SimulatedTensor, *saved: SimulatedTensor) -> Grads:
        grads: list[SimulatedTensor | None] = [None, None]
        for index, (count, own) in enumerate(sizes):
            if wanted[index]:
                made = tape.new(g.count, dtype)
                if count < g.count:
                    made = tape.new(count, dtype)
                grads[index] = made if own == dtype else tape.new(count, own)
                del made
        return tuple(grads)

    saved = (b,) * wanted[0] + (a,) * wanted[1]
    return tape.record_op(tape.new(a.count, dtype), (a, b), backward, *saved)


def scale(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    """Return `x` multiplied by a number; nothing is saved."""
    return tape.record_op(tape.new(x.count, x.dtype), (x,), lambda g: (tape.new(g.count, g.dtype),))


def activation(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    """Return SiLU or GELU of `x`, which saves its input."""
    y = tape.new(x.count, x.dtype)
    return tape.record_op(y, (x,), lambda g, saved: (tape.new(g.count, g.dtype),), x)


def exp(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    """Return `x.exp()`, which saves its result."""
    y = tape.new(x.count, x.dtype)
    saved = SimulatedTensor(y.count, y.dtype, y.storage)
    return tape.record_op(y, (x,), lambda g, saved: (tape.new(g.count, g.dtype),), saved)


def reduce_sum(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    """Return `x.sum()`; its gradient is an expanded view of one number."""
    count, dtype = x.count, x.dtype
    return tape.record_op(
        tape.new(1, dtype), (x,), lambda g: (SimulatedTensor(count, dtype, g.storage),)
    )


def log_softmax(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    """Return the log-softmax of `x`, which saves its result."""
    soft = tape.new(x.count, x.dtype)
    saved = SimulatedTensor(x.count, x.dtype, soft.storage)
    return tape.record_op(soft, (x,), lambda g, saved: (tape.new(g.count, g.dtype),), saved)


def log_sum_exp(tape: AutogradSimulator, x: SimulatedTensor, rows: int) -> SimulatedTensor:
    """Return `x.logsumexp(-1)`, which saves input and result.

    Its backward pass has two temporaries.

    Args:
        tape: Records the operation.
        x: Input, `[rows, columns]`.
        rows: Number of results.
    """
    tape.new(x.count, x.dtype)  # x - max, exponentiated in place

    def backward(g: SimulatedTensor, *saved: SimulatedTensor) -> Grads:
        steps = [tape.new(saved[0].count, g.dtype) for _ in range(2)]
        made = tape.new(saved[0].count, g.dtype)
        del steps
        return (made,)

    y = tape.new(rows, x.dtype)
    return tape.record_op(y, (x,), backward, x, SimulatedTensor(rows, x.dtype, y.storage))


def gather(tape: AutogradSimulator, x: SimulatedTensor, ids: SimulatedTensor) -> SimulatedTensor:
    """Return `x.gather(-1, ids)`; its gradient is scattered into a tensor of zeros.

    Args:
        tape: Records the operation.
        x: Input.
        ids: Indices.
    """
    count, dtype = x.count, x.dtype
    y = tape.new(ids.count, dtype)
    return tape.record_op(y, (x,), lambda g, *saved: (tape.new(count, dtype),), x, ids)


def masked_fill(
    tape: AutogradSimulator, x: SimulatedTensor, ids: SimulatedTensor
) -> SimulatedTensor:
    """Return `x.scatter(-1, ids, number)`: a copy of `x`, and in backward a copy of the gradient.

    Args:
        tape: Records the operation.
        x: Input.
        ids: Indices that are filled.
    """
    y = tape.new(x.count, x.dtype)
    return tape.record_op(y, (x,), lambda g, saved: (tape.new(g.count, g.dtype),), ids)


def copy(tape: AutogradSimulator, x: SimulatedTensor, count: int | None = None) -> SimulatedTensor:
    """Return a contiguous copy of `x`.

    Args:
        tape: Records the operation.
        x: Input.
        count: Elements to copy; all of them if left out.
    """
    whole = x.count

    def backward(g: SimulatedTensor) -> Grads:
        return (g if g.count == whole else tape.new(whole, g.dtype),)

    return tape.record_op(tape.new(count or x.count, x.dtype), (x,), backward)


def cat(tape: AutogradSimulator, a: SimulatedTensor, b: SimulatedTensor) -> SimulatedTensor:
    """Return `torch.cat((a, b))`; the gradients are views of one tensor.

    Args:
        tape: Records the operation.
        a: First input.
        b: Second input.
    """
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
    """Apply RMSNorm (arXiv:1910.07467) in fp32, as Transformers writes it in separate operations.

    Each of them saves a tensor; a fused kernel would save far less.

    Args:
        tape: Records the operations.
        x: Input, `[tokens, hidden]`.
        weight: Weight, `[hidden]`.
    """
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


def apply_rotary(
    tape: AutogradSimulator, x: SimulatedTensor, cos: SimulatedTensor, sin: SimulatedTensor
) -> SimulatedTensor:
    """Return `x * cos + rotate_half(x) * sin` (RoPE, arXiv:2104.09864).

    Args:
        tape: Records the operations.
        x: Queries or keys.
        cos: Cosines by position.
        sin: Sines by position.
    """
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
    """Look up rows of a table; the gradient has the size of the complete table.

    Args:
        tape: Records the operation.
        table: The embeddings.
        tokens: Number of rows looked up.
        width: Size of a row.
    """
    count, dtype = table.count, table.dtype

    def backward(g: SimulatedTensor) -> Grads:
        with tape.gathered_weight(table):
            return (tape.new(count, dtype),)

    with tape.gathered_weight(table):
        rows = tape.new(tokens * width, dtype)
    return tape.record_op(rows, (as_tensor(table),), backward)
