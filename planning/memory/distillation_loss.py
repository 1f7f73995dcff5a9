"""The distance of a student's distributions from its teacher's, tile by tile.

After `training/methods/common/divergence.py` and `soft_head.py`: the gradient of each tile is taken on the
way forward, and what the tile before found is let go of only when the next has found its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from planning.memory.autograd import AutogradSimulator, Grads, SimulatedParameter, SimulatedTensor
from planning.memory.log_probs import LOGITS, pick, wanted
from planning.memory.ops import (
    add,
    cast,
    exp,
    gather,
    join,
    linear,
    log_softmax,
    log_sum_exp,
    masked_fill,
    mul,
    read,
    scale,
    subtract,
    total,
)
from planning.memory.parameters import MemoryConfig


def known_of(
    tape: AutogradSimulator, hidden: SimulatedTensor, head: SimulatedParameter, recipe: MemoryConfig
) -> SimulatedTensor:
    """What a teacher makes of every supervised token: log-probabilities, [tokens, vocabulary]."""
    width = hidden.count // (recipe.rows * recipe.length)
    size = recipe.rows * (recipe.length - 1) * (head.count // width)
    with tape.meter.belongs_to("logits"):
        logits = linear(tape, hidden, head, width)
        picked = tape.new(size, logits.dtype)
        softened = scale(tape, cast(tape, picked, "fp32"))
        found = tape.new(size, "fp32")
        del logits, picked, softened
        return found


def distance(
    tape: AutogradSimulator,
    hidden: SimulatedTensor,
    head: SimulatedParameter,
    recipe: MemoryConfig,
    known: SimulatedTensor | None,
) -> SimulatedTensor:
    """The weighted sum of divergence and label loss."""
    width = recipe.shape.hidden
    tokens = recipe.rows * (recipe.length - 1)
    x = wanted(tape, hidden, tokens, width)
    with tape.meter.belongs_to("logits"):
        return _tiled(tape, x, head, recipe, width)


def _tiled(
    tape: AutogradSimulator,
    hidden: SimulatedTensor,
    head: SimulatedParameter,
    recipe: MemoryConfig,
    width: int,
) -> SimulatedTensor:
    learns = hidden.node is not None
    kept = [tape.new(hidden.count, hidden.dtype)] if learns else []
    kept += [tape.new(head.count, head.dtype)] if head.learns else []
    whole = tape.gate.gathered(head) if tape.gate is not None and head.sharded else None
    gate, tape.gate = tape.gate, None
    grad_enabled, tape.grad_enabled = tape.grad_enabled, True
    weight = _leaf(head.storage, head.count, head.dtype, width, head.learns)
    views: list[
        SimulatedParameter
    ] = []  # Autocast remembers the cast of each until the forward pass is over.
    found: list[SimulatedTensor] = []
    tokens, size = hidden.count // width, max(1, LOGITS * width // head.count)
    for start in range(0, tokens, size):
        count = min(size, tokens - start)
        x = _leaf(hidden.storage, count * width, hidden.dtype, width, learns)
        views.append(x)
        found = _gradients(tape, x, weight, count, recipe)
    del found, whole
    tape.gate, tape.grad_enabled = gate, grad_enabled
    of_hidden, of_head = (hidden.count, hidden.dtype), (head.count, head.dtype)
    sizes = [of_hidden] * learns + [of_head] * head.learns

    def back(g: SimulatedTensor, *kept: SimulatedTensor) -> Grads:
        made = [tape.new(*size) for size in sizes]
        return (made.pop(0) if learns else None, made.pop(0) if head.learns else None)

    return tape.record(tape.new(1, "fp32"), (hidden, read(head)), back, *kept)


def _leaf(storage: Any, count: int, dtype: str, width: int, learns: bool) -> SimulatedParameter:
    return SimulatedParameter(count, dtype, learns, width, storage=storage)


def _gradients(
    tape: AutogradSimulator,
    x: SimulatedParameter,
    weight: SimulatedParameter,
    tokens: int,
    recipe: MemoryConfig,
) -> list[SimulatedTensor]:
    """The gradients of one tile."""
    found: list[SimulatedTensor] = []
    for leaf in (x, weight):
        leaf.sink = lambda _, grad: found.append(grad)
    logits = scale(tape, linear(tape, read(x), weight, weight.width))
    student = log_softmax(tape, scale(tape, cast(tape, logits, "fp32")))
    soft = _DIVERGENCES[recipe.learning.divergence](tape, _beside(tape, student, tokens, recipe))
    hard = total(tape, pick(tape, log_softmax(tape, cast(tape, logits, "fp32")), tokens))
    out = add(tape, scale(tape, soft), scale(tape, hard))
    del logits, student, soft, hard
    if out.node is not None:
        tape.backward(out, tape.new(1, "fp32"))
    x.sink = weight.sink = None
    return found


def _beside(
    tape: AutogradSimulator, student: SimulatedTensor, tokens: int, recipe: MemoryConfig
) -> SimulatedTensor:
    """The student over the events its teacher is known by: all tokens, or the likeliest and rest.

    For the rest, the likeliest are struck out of a copy of the student, and that is summed.
    """
    if not recipe.learning.known:
        return student
    likeliest = (recipe.learning.known - 1) * tokens
    ids = tape.new(likeliest, "int64")
    rest = log_sum_exp(tape, masked_fill(tape, student, ids), tokens)
    return join(tape, gather(tape, student, ids), rest)


# --- divergences ------------------------------------------------------------------------------


def _forward_kl(tape: AutogradSimulator, q: SimulatedTensor) -> SimulatedTensor:
    """`(p.exp() * (p - q)).sum()`."""
    p = SimulatedTensor(q.count, "fp32", None)
    share = tape.new(q.count, "fp32")
    return total(tape, mul(tape, share, subtract(tape, p, q)))


def _reverse_kl(tape: AutogradSimulator, q: SimulatedTensor) -> SimulatedTensor:
    """`(q.exp() * (q - p)).sum()`."""
    p = SimulatedTensor(q.count, "fp32", None)
    return total(tape, mul(tape, exp(tape, q), subtract(tape, q, p)))


def _js(tape: AutogradSimulator, q: SimulatedTensor) -> SimulatedTensor:
    """Half the divergence of each from their mean."""
    p = SimulatedTensor(q.count, "fp32", None)
    both = _logaddexp(tape, p, q)
    middle = scale(tape, both)
    share = tape.new(q.count, "fp32")
    first = total(tape, mul(tape, share, subtract(tape, p, middle)))
    second = total(tape, mul(tape, exp(tape, q), subtract(tape, q, middle)))
    return add(tape, first, second)


def _logaddexp(tape: AutogradSimulator, a: SimulatedTensor, b: SimulatedTensor) -> SimulatedTensor:
    """Keeps both; its backward writes out three more of their size."""
    count = b.count

    def back(g: SimulatedTensor, *kept: SimulatedTensor) -> Grads:
        steps = [tape.new(count, "fp32") for _ in range(2)]
        made = tape.new(count, "fp32")
        del steps
        return None, made

    return tape.record(tape.new(count, "fp32"), (a, b), back, a, b)


_DIVERGENCES: dict[str, Callable[[AutogradSimulator, SimulatedTensor], SimulatedTensor]] = {
    "forward_kl": _forward_kl,
    "reverse_kl": _reverse_kl,
    "js": _js,
}
