"""Memory of the attention implementations of Transformers.

- `eager` materializes all scores, `[rows, heads, length, length]`.
- `sdpa` does not. If documents are packed it receives a mask, which the kernels convert to a bias
  of the queries' data type once per layer and save. A mask also makes it repeat the shared keys and
  values for every query head (`transformers/integrations/sdpa_attention.py`).
- `flash_attention_2` receives the boundaries of the documents and needs no mask.
"""

from __future__ import annotations

from dataclasses import dataclass

from planning.memory.autograd import AutogradSimulator
from planning.memory.ops import autocast_input, cast, scale
from planning.memory.tensors import Grads, SimulatedTensor


@dataclass(frozen=True)
class AttentionShape:
    """Dimensions of one attention layer.

    Attributes:
        rows: Rows of the micro-batch.
        length: Tokens per row.
        heads: Number of query heads.
        kv_heads: Number of key and value heads (grouped-query attention, arXiv:2305.13245).
        width: Size of one head.
    """

    rows: int
    length: int
    heads: int
    kv_heads: int
    width: int

    @property
    def scores(self) -> int:
        """Number of attention scores: one for each query, key and head."""
        return self.rows * self.heads * self.length * self.length


def attention_forward(
    tape: AutogradSimulator,
    kind: str,
    q: SimulatedTensor,
    k: SimulatedTensor,
    v: SimulatedTensor,
    mask: SimulatedTensor | None,
    size: AttentionShape,
) -> SimulatedTensor:
    """Return the attention of `q` over `k` and `v`.

    Args:
        tape: Records the operations.
        kind: `eager`, `sdpa` or `flash_attention_2`.
        q: Queries, `[rows, heads, length, width]`.
        k: Keys, `[rows, kv_heads, length, width]`.
        v: Values, with the shape of the keys.
        mask: Boolean mask, `[rows, 1, length, length]`; None if attention is causal only.
        size: The dimensions.

    Returns:
        A tensor with the shape of the queries.
    """
    if kind == "eager":
        return _eager(tape, q, k, v, mask, size)
    q, k, v = autocast_input(tape, q), autocast_input(tape, k), autocast_input(tape, v)
    if kind == "sdpa" and mask is not None:
        k, v = repeat_kv(tape, k, size), repeat_kv(tape, v, size)
    return _fused(tape, q, k, v, mask if kind == "sdpa" else None, size)


def repeat_kv(tape: AutogradSimulator, x: SimulatedTensor, size: AttentionShape) -> SimulatedTensor:
    """Return keys or values repeated for each query head that shares them.

    Args:
        tape: Records the operation.
        x: Keys or values, `[rows, kv_heads, length, width]`.
        size: The dimensions.

    Returns:
        `[rows, heads, length, width]`; the input itself if no heads are shared.
    """
    times = size.heads // size.kv_heads
    if times == 1:
        return x
    count, dtype = x.count, x.dtype
    return tape.record_op(tape.new(count * times, dtype), (x,), lambda g: (tape.new(count, dtype),))


def _fused(
    tape: AutogradSimulator,
    q: SimulatedTensor,
    k: SimulatedTensor,
    v: SimulatedTensor,
    mask: SimulatedTensor | None,
    size: AttentionShape,
) -> SimulatedTensor:
    counts, dtype = (q.count, k.count, v.count), q.dtype
    shared = k.count < q.count

    def backward(g: SimulatedTensor, *saved: SimulatedTensor) -> Grads:
        scratch = _backward_scratch(tape, size, shared, dtype)
        grads = tuple(tape.new(count, dtype) for count in counts)
        del scratch
        return grads

    bias = tape.new(mask.count, dtype) if mask is not None else None
    out = tape.new(q.count, dtype)
    log_sums = tape.new(size.rows * size.heads * size.length, "fp32")
    saved = [q, k, v, SimulatedTensor(out.count, dtype, out.storage), log_sums]
    saved += [bias] if bias is not None else []
    return tape.record_op(out, (q, k, v), backward, *saved)


def _backward_scratch(
    tape: AutogradSimulator, size: AttentionShape, shared: bool, dtype: str
) -> list[SimulatedTensor]:
    """Allocate the workspace of the backward kernel (`mha_bwd` of flash-attention 2).

    It holds the row sums of dO * O and an fp32 accumulator of dQ, both with the length rounded up
    to a block of 128; if heads are shared, also dK and dV for each query head before their sum.
    """
    if tape.device != "cuda":
        return []
    length = -(-size.length // 128) * 128
    sums = size.rows * size.heads * length
    scratch = [tape.new(sums, "fp32"), tape.new(sums * size.width, "fp32")]
    if shared:
        scratch += [tape.new(size.rows * size.heads * size.length * size.width, dtype)] * 2
    return scratch


def _eager(
    tape: AutogradSimulator,
    q: SimulatedTensor,
    k: SimulatedTensor,
    v: SimulatedTensor,
    mask: SimulatedTensor | None,
    size: AttentionShape,
) -> SimulatedTensor:
    k, v = repeat_kv(tape, k, size), repeat_kv(tape, v, size)
    scores = scale(tape, _batched(tape, q, k, size.scores))
    if mask is not None:
        scores = tape.record_op(tape.new(scores.count, scores.dtype), (scores,), lambda g: (g,))
    dtype = q.dtype
    weights = cast(tape, _softmax(tape, scores), dtype)
    del scores
    out = _batched(tape, weights, v, q.count)
    del weights
    return tape.record_op(tape.new(out.count, out.dtype), (out,), lambda g: (g,))


def _softmax(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    y = tape.new(x.count, "fp32")
    before = x.dtype

    def backward(g: SimulatedTensor, saved: SimulatedTensor) -> Grads:
        made = tape.new(g.count, "fp32")
        return (made if before == "fp32" else tape.new(g.count, before),)

    return tape.record_op(y, (x,), backward, SimulatedTensor(y.count, y.dtype, y.storage))


def _batched(
    tape: AutogradSimulator, a: SimulatedTensor, b: SimulatedTensor, count: int
) -> SimulatedTensor:
    a, b = autocast_input(tape, a), autocast_input(tape, b)
    wanted = (a.node is not None, b.node is not None)
    counts, dtype = (a.count, b.count), a.dtype

    def backward(g: SimulatedTensor, *saved: SimulatedTensor) -> Grads:
        return tuple(
            tape.new(size, dtype) if needed else None
            for needed, size in zip(wanted, counts, strict=True)
        )

    saved = (b,) * wanted[0] + (a,) * wanted[1]
    return tape.record_op(tape.new(count, dtype), (a, b), backward, *saved)
