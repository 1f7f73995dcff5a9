"""Distillation loss of a student, computed in tiles over the tokens.

Models `training/methods/common/divergence.py` and `distillation_head.py`: the forward pass computes
the gradient of each tile at once, so that the logits of one tile at a time are live.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from planning.memory.autograd import AutogradSimulator
from planning.memory.log_probs import LOGITS, gather_token, supervised_states
from planning.memory.ops import (
    add,
    as_tensor,
    cast,
    cat,
    exp,
    gather,
    linear,
    log_softmax,
    log_sum_exp,
    masked_fill,
    mul,
    reduce_sum,
    scale,
    subtract,
)
from planning.memory.parameters import MemoryConfig
from planning.memory.tensors import Grads, SimulatedParameter, SimulatedTensor


def compute_teacher_log_probs(
    tape: AutogradSimulator, hidden: SimulatedTensor, head: SimulatedParameter, config: MemoryConfig
) -> SimulatedTensor:
    """Return the teacher's log-probabilities at every supervised position.

    Args:
        tape: Records the operations.
        hidden: Last hidden states of the teacher, `[rows, length, width]`.
        head: Its output embeddings, `[vocabulary, width]`.
        config: The simulated job.

    Returns:
        `[rows * (length - 1), vocabulary]`, in fp32.
    """
    width = hidden.count // (config.rows * config.length)
    size = config.rows * (config.length - 1) * (head.count // width)
    with tape.allocator.counted_as("logits"):
        logits = linear(tape, hidden, head, width)
        picked = tape.new(size, logits.dtype)
        softened = scale(tape, cast(tape, picked, "fp32"))
        log_probs = tape.new(size, "fp32")
        del logits, picked, softened
        return log_probs


def distillation_loss(
    tape: AutogradSimulator,
    hidden: SimulatedTensor,
    head: SimulatedParameter,
    config: MemoryConfig,
    teacher_log_probs: SimulatedTensor | None,
) -> SimulatedTensor:
    """Return the weighted sum of the divergence from the teacher and the loss on the labels.

    Args:
        tape: Records the operations.
        hidden: Last hidden states of the student, `[rows, length, width]`.
        head: Its output embeddings, `[vocabulary, width]`.
        config: The simulated job.
        teacher_log_probs: Kept alive by the caller; their content has no effect on memory.
    """
    width = config.shape.hidden
    tokens = config.rows * (config.length - 1)
    x = supervised_states(tape, hidden, tokens, width)
    with tape.allocator.counted_as("logits"):
        return _tiled(tape, x, head, config, width)


def _tiled(
    tape: AutogradSimulator,
    hidden: SimulatedTensor,
    head: SimulatedParameter,
    config: MemoryConfig,
    width: int,
) -> SimulatedTensor:
    requires_grad = hidden.node is not None
    saved = [tape.new(hidden.count, hidden.dtype)] if requires_grad else []
    saved += [tape.new(head.count, head.dtype)] if head.requires_grad else []
    whole = (
        tape.gather_hook.gathered(head) if tape.gather_hook is not None and head.sharded else None
    )
    gather_hook, tape.gather_hook = tape.gather_hook, None
    grad_enabled, tape.grad_enabled = tape.grad_enabled, True
    weight = _leaf(head.storage, head.count, head.dtype, width, head.requires_grad)
    # The simulated autocast cache holds the cast of each leaf until the forward pass ends, under
    # the leaf's `id`: the leaves have to live as long, or a later one could reuse the id.
    leaves: list[SimulatedParameter] = []
    # Rebinding `grads` frees the gradients of a tile only after those of the next exist.
    grads: list[SimulatedTensor] = []
    tokens, size = hidden.count // width, max(1, LOGITS * width // head.count)
    for start in range(0, tokens, size):
        count = min(size, tokens - start)
        x = _leaf(hidden.storage, count * width, hidden.dtype, width, requires_grad)
        leaves.append(x)
        grads = _tile_gradients(tape, x, weight, count, config)
    del grads, whole
    tape.gather_hook, tape.grad_enabled = gather_hook, grad_enabled
    of_hidden, of_head = (hidden.count, hidden.dtype), (head.count, head.dtype)
    sizes = [of_hidden] * requires_grad + [of_head] * head.requires_grad

    def backward(g: SimulatedTensor, *saved: SimulatedTensor) -> Grads:
        made = [tape.new(*size) for size in sizes]
        return (made.pop(0) if requires_grad else None, made.pop(0) if head.requires_grad else None)

    return tape.record_op(tape.new(1, "fp32"), (hidden, as_tensor(head)), backward, *saved)


def _leaf(
    storage: Any, count: int, dtype: str, width: int, requires_grad: bool
) -> SimulatedParameter:
    return SimulatedParameter(count, dtype, requires_grad, width, storage=storage)


def _tile_gradients(
    tape: AutogradSimulator,
    x: SimulatedParameter,
    weight: SimulatedParameter,
    tokens: int,
    config: MemoryConfig,
) -> list[SimulatedTensor]:
    """Return the gradients of one tile for its hidden states and for the head."""
    grads: list[SimulatedTensor] = []
    for leaf in (x, weight):
        leaf.sink = lambda _, grad: grads.append(grad)
    logits = scale(tape, linear(tape, as_tensor(x), weight, weight.width))
    student = log_softmax(tape, scale(tape, cast(tape, logits, "fp32")))
    soft = _DIVERGENCES[config.method.divergence](
        tape, _student_events(tape, student, tokens, config)
    )
    hard = reduce_sum(
        tape, gather_token(tape, log_softmax(tape, cast(tape, logits, "fp32")), tokens)
    )
    out = add(tape, scale(tape, soft), scale(tape, hard))
    del logits, student, soft, hard
    if out.node is not None:
        tape.backward(out, tape.new(1, "fp32"))
    x.sink = weight.sink = None
    return grads


def _student_events(
    tape: AutogradSimulator, student: SimulatedTensor, tokens: int, config: MemoryConfig
) -> SimulatedTensor:
    """Return the student's log-probabilities of the events that the teacher's cover.

    These are all tokens, or the teacher's top k and one event for all others. The probability of
    the others is a log-sum-exp over a copy of the student in which the top k are masked.
    """
    if not config.method.known:
        return student
    likeliest = (config.method.known - 1) * tokens
    ids = tape.new(likeliest, "int64")
    rest = log_sum_exp(tape, masked_fill(tape, student, ids), tokens)
    return cat(tape, gather(tape, student, ids), rest)


# --- divergences ------------------------------------------------------------------------------


def _forward_kl(tape: AutogradSimulator, q: SimulatedTensor) -> SimulatedTensor:
    """`(p.exp() * (p - q)).sum()`."""
    p = SimulatedTensor(q.count, "fp32", None)
    share = tape.new(q.count, "fp32")
    return reduce_sum(tape, mul(tape, share, subtract(tape, p, q)))


def _reverse_kl(tape: AutogradSimulator, q: SimulatedTensor) -> SimulatedTensor:
    """`(q.exp() * (q - p)).sum()`."""
    p = SimulatedTensor(q.count, "fp32", None)
    return reduce_sum(tape, mul(tape, exp(tape, q), subtract(tape, q, p)))


def _js(tape: AutogradSimulator, q: SimulatedTensor) -> SimulatedTensor:
    """Jensen-Shannon divergence: the mean of the divergences of p and q from their mixture."""
    p = SimulatedTensor(q.count, "fp32", None)
    both = _logaddexp(tape, p, q)
    middle = scale(tape, both)
    share = tape.new(q.count, "fp32")
    first = reduce_sum(tape, mul(tape, share, subtract(tape, p, middle)))
    second = reduce_sum(tape, mul(tape, exp(tape, q), subtract(tape, q, middle)))
    return add(tape, first, second)


def _logaddexp(tape: AutogradSimulator, a: SimulatedTensor, b: SimulatedTensor) -> SimulatedTensor:
    """`torch.logaddexp`: saves both inputs; its backward pass has three temporaries."""
    count = b.count

    def backward(g: SimulatedTensor, *saved: SimulatedTensor) -> Grads:
        steps = [tape.new(count, "fp32") for _ in range(2)]
        made = tape.new(count, "fp32")
        del steps
        return None, made

    return tape.record_op(tape.new(count, "fp32"), (a, b), backward, a, b)


_DIVERGENCES: dict[str, Callable[[AutogradSimulator, SimulatedTensor], SimulatedTensor]] = {
    "forward_kl": _forward_kl,
    "reverse_kl": _reverse_kl,
    "js": _js,
}
