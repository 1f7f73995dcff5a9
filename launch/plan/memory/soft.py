"""The distance of a student's distributions from its teacher's, tile by tile.

After `training/methods/divergence.py` and `soft_head.py`: the gradient of each tile is taken on the
way forward, and what the tile before found is let go of only when the next has found its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from launch.plan.memory.next_tokens import LOGITS, pick, wanted
from launch.plan.memory.ops import (
    add,
    cast,
    exp,
    gather,
    join,
    linear,
    log_softmax,
    log_sum_exp,
    mul,
    read,
    scale,
    strike_out,
    subtract,
    total,
)
from launch.plan.memory.tape import Grads, Tape, Tensor, Weight
from launch.plan.memory.weights import Recipe


def known_of(tape: Tape, hidden: Tensor, head: Weight, recipe: Recipe) -> Tensor:
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
    tape: Tape, hidden: Tensor, head: Weight, recipe: Recipe, known: Tensor | None
) -> Tensor:
    """The weighted sum of divergence and label loss."""
    width = recipe.shape.hidden
    tokens = recipe.rows * (recipe.length - 1)
    x = wanted(tape, hidden, tokens, width)
    with tape.meter.belongs_to("logits"):
        return _tiled(tape, x, head, recipe, width)


def _tiled(tape: Tape, hidden: Tensor, head: Weight, recipe: Recipe, width: int) -> Tensor:
    learns = hidden.node is not None
    kept = [tape.new(hidden.count, hidden.dtype)] if learns else []
    kept += [tape.new(head.count, head.dtype)] if head.learns else []
    whole = tape.gate.gathered(head) if tape.gate is not None and head.sharded else None
    gate, tape.gate = tape.gate, None
    grad_enabled, tape.grad_enabled = tape.grad_enabled, True
    weight = _leaf(head.storage, head.count, head.dtype, width, head.learns)
    views: list[Weight] = []  # Autocast remembers the cast of each until the forward pass is over.
    found: list[Tensor] = []
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

    def back(g: Tensor, *kept: Tensor) -> Grads:
        made = [tape.new(*size) for size in sizes]
        return (made.pop(0) if learns else None, made.pop(0) if head.learns else None)

    return tape.record(tape.new(1, "fp32"), (hidden, read(head)), back, *kept)


def _leaf(storage: Any, count: int, dtype: str, width: int, learns: bool) -> Weight:
    return Weight(count, dtype, learns, width, storage=storage)


def _gradients(tape: Tape, x: Weight, weight: Weight, tokens: int, recipe: Recipe) -> list[Tensor]:
    """The gradients of one tile."""
    found: list[Tensor] = []
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


def _beside(tape: Tape, student: Tensor, tokens: int, recipe: Recipe) -> Tensor:
    """The student over the events its teacher is known by: all tokens, or the likeliest and rest.

    For the rest, the likeliest are struck out of a copy of the student, and that is summed.
    """
    if not recipe.learning.known:
        return student
    likeliest = (recipe.learning.known - 1) * tokens
    ids = tape.new(likeliest, "int64")
    rest = log_sum_exp(tape, strike_out(tape, student, ids), tokens)
    return join(tape, gather(tape, student, ids), rest)


# --- divergences ------------------------------------------------------------------------------


def _forward_kl(tape: Tape, q: Tensor) -> Tensor:
    """`(p.exp() * (p - q)).sum()`."""
    p = Tensor(q.count, "fp32", None)
    share = tape.new(q.count, "fp32")
    return total(tape, mul(tape, share, subtract(tape, p, q)))


def _reverse_kl(tape: Tape, q: Tensor) -> Tensor:
    """`(q.exp() * (q - p)).sum()`."""
    p = Tensor(q.count, "fp32", None)
    return total(tape, mul(tape, exp(tape, q), subtract(tape, q, p)))


def _js(tape: Tape, q: Tensor) -> Tensor:
    """Half the divergence of each from their mean."""
    p = Tensor(q.count, "fp32", None)
    both = _logaddexp(tape, p, q)
    middle = scale(tape, both)
    share = tape.new(q.count, "fp32")
    first = total(tape, mul(tape, share, subtract(tape, p, middle)))
    second = total(tape, mul(tape, exp(tape, q), subtract(tape, q, middle)))
    return add(tape, first, second)


def _logaddexp(tape: Tape, a: Tensor, b: Tensor) -> Tensor:
    """Keeps both; its backward writes out three more of their size."""
    count = b.count

    def back(g: Tensor, *kept: Tensor) -> Grads:
        steps = [tape.new(count, "fp32") for _ in range(2)]
        made = tape.new(count, "fp32")
        del steps
        return None, made

    return tape.record(tape.new(count, "fp32"), (a, b), back, a, b)


_DIVERGENCES: dict[str, Callable[[Tape, Tensor], Tensor]] = {
    "forward_kl": _forward_kl,
    "reverse_kl": _reverse_kl,
    "js": _js,
}
