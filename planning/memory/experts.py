"""Router and experts of a mixture, operation by operation.

Models `grouped_mm_experts_forward` of `transformers/integrations/moe.py`, which Transformers 5
takes on CPUs and, from compute capability 8.0 on, on GPUs (`get_correct_experts_implementation`,
`_can_use_grouped_mm`). Each token is copied once per expert that sees it, sorted by expert. The
weights of all experts are one operand, and so is their gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from planning.memory.autograd import AutogradSimulator
from planning.memory.ops import (
    activation,
    as_tensor,
    autocast_input,
    cast,
    linear,
    log_softmax,
    mul,
)
from planning.memory.tensors import Grads, SimulatedParameter, SimulatedTensor
from planning.model_shape import DOWN, GATE_UP, ROUTER


@dataclass
class Experts:
    """Router and experts of one layer.

    Attributes:
        weights: Weights by name; all experts share a tensor.
        per_token: Experts that see a token.
        width: Width of the MLP of one expert.
        low_scores: True if scores are cast from fp32 to the type of the logits.
        adapters: Both matrices of the LoRA update of a weight, by its name.
    """

    weights: dict[str, SimulatedParameter]
    per_token: int
    width: int
    low_scores: bool
    adapters: dict[str, tuple[SimulatedParameter, SimulatedParameter]] = field(default_factory=dict)

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.weights[ROUTER].width

    @property
    def count(self) -> int:
        """Number of experts."""
        return self.weights[ROUTER].count // self.hidden


def route(
    tape: AutogradSimulator, x: SimulatedTensor, experts: Experts
) -> tuple[SimulatedTensor, SimulatedTensor, SimulatedTensor]:
    """Return router logits, scores of the selected experts, and their indices.

    Args:
        tape: Records the operations.
        x: Input, `[tokens, hidden]`.
        experts: Weights of the layer.

    Returns:
        `[tokens, experts]`, and twice `[tokens, experts per token]`.
    """
    router, hidden = experts.weights[ROUTER], experts.hidden
    tokens = x.count // hidden
    if ROUTER in experts.adapters:
        x, w = autocast_input(tape, x), autocast_input(tape, _with_update(tape, experts, ROUTER))
        logits = _product(tape, x, w, router, hidden)
    else:
        logits = linear(tape, x, router, hidden)
    # A softmax saves its result, as a log-softmax does.
    probabilities = log_softmax(tape, cast(tape, logits, "fp32"))
    top = tokens * experts.per_token
    chosen, whole = tape.new(top, "int64"), probabilities.count
    scores = tape.record_op(
        tape.new(top, "fp32"), (probabilities,), lambda g, saved: (tape.new(whole, "fp32"),), chosen
    )
    del probabilities
    scores = _normalized(tape, scores)
    return logits, cast(tape, scores, logits.dtype) if experts.low_scores else scores, chosen


def expert_outputs(
    tape: AutogradSimulator,
    x: SimulatedTensor,
    scores: SimulatedTensor,
    chosen: SimulatedTensor,
    experts: Experts,
) -> SimulatedTensor:
    """Return the weighted sum of the outputs of each token's experts.

    Local variables live as long as those of the modeled function.

    Args:
        tape: Records the operations.
        x: Input, `[tokens, hidden]`.
        scores: Scores of the selected experts, `[tokens, experts per token]`.
        chosen: Their indices.
        experts: Weights of the layer.

    Returns:
        `[tokens, hidden]`.
    """
    pairs, hidden = chosen.count, experts.hidden
    by_expert, order = tape.new(pairs, "int64"), tape.new(pairs, "int64")
    selected = _rows(tape, x, tape.new(pairs, "int64"), pairs * hidden)
    weights = _rows(tape, scores, order, pairs)
    counted = tape.new(pairs, "fp32" if tape.device == "cpu" else "int64")
    out = _grouped_mm(tape, selected, experts, GATE_UP, hidden)
    out = _gate(tape, out)
    out = _grouped_mm(tape, out, experts, DOWN, experts.width)
    weighted = mul(tape, out, weights)
    inverse = tape.new(pairs, "int64")
    weighted = _rows(tape, weighted, inverse, weighted.count)
    total = weighted.count

    def sum_back(g: SimulatedTensor) -> Grads:
        return (SimulatedTensor(total, g.dtype, g.storage),)

    final = tape.record_op(tape.new(x.count, weighted.dtype), (weighted,), sum_back)
    del by_expert, counted
    return cast(tape, final, x.dtype)


def balance_loss(tape: AutogradSimulator, logits: list[SimulatedTensor]) -> SimulatedTensor:
    """Return the load-balancing loss of a forward pass.

    Models `load_balancing_loss_func` of Transformers, which sums over the layers one by one.

    Args:
        tape: Records the operations.
        logits: Router logits of each layer, `[tokens, experts]`.
    """
    total: SimulatedTensor | None = None
    for layer in logits:
        probabilities = cast(tape, log_softmax(tape, layer), "fp32")
        count, before = probabilities.count, total

        def backward(g: SimulatedTensor, count: int = count) -> Grads:
            return SimulatedTensor(count, "fp32", g.storage), g

        inputs = (probabilities, before if before is not None else tape.new(1, "fp32"))
        total = tape.record_op(tape.new(1, "fp32"), inputs, backward)
    assert total is not None
    return total


def _grouped_mm(
    tape: AutogradSimulator, x: SimulatedTensor, experts: Experts, name: str, width: int
) -> SimulatedTensor:
    """Multiply the rows of each expert by its weight.

    Autocast does not know `grouped_mm`: Transformers casts the input to the type of the weight.

    Args:
        tape: Records the operations.
        x: Input, sorted by expert, `[pairs, width]`.
        experts: Weights of the layer.
        name: Weight to multiply by.
        width: Number of input features.
    """
    weight = experts.weights[name]
    with tape.gathered_weight(weight):
        w = _with_update(tape, experts, name)
        return _product(tape, cast(tape, x, w.dtype), w, weight, width, experts.count)


def _product(
    tape: AutogradSimulator,
    x: SimulatedTensor,
    w: SimulatedTensor,
    weight: SimulatedParameter,
    width: int,
    groups: int = 1,
) -> SimulatedTensor:
    """Multiply rows by matrices, each row by that of its group.

    Args:
        tape: Records the operation.
        x: Input, `[rows, width]`.
        w: Matrices, `[groups, outputs, width]`.
        weight: Weight that they were made from, which an engine may have to gather.
        width: Number of input features.
        groups: Number of matrices.
    """
    wants_x, wants_w = x.node is not None, w.node is not None
    x_count, w_count, dtype = x.count, w.count, x.dtype

    def backward(g: SimulatedTensor, *saved: SimulatedTensor) -> Grads:
        with tape.gathered_weight(weight):
            return (
                tape.new(x_count, dtype) if wants_x else None,
                tape.new(w_count, dtype) if wants_w else None,
            )

    y = tape.new(x_count // width * (w_count // groups // width), dtype)
    return tape.record_op(y, (x, w), backward, *(w,) * wants_x, *(x,) * wants_w)


def _with_update(tape: AutogradSimulator, experts: Experts, name: str) -> SimulatedTensor:
    """Return a weight with its LoRA update, folded into a tensor of the weight's size.

    Models `_LoraFactorsProxy` of `peft/tuners/lora/layer.py`: `baddbmm` in the type of the weight.

    Args:
        tape: Records the operations.
        experts: Weights of the layer.
        name: Weight of the router or of the experts.
    """
    weight = as_tensor(experts.weights[name])
    if name not in experts.adapters:
        return weight
    down, up = (cast(tape, as_tensor(w), weight.dtype) for w in experts.adapters[name])
    counts, dtype = (down.count, up.count), weight.dtype

    def backward(g: SimulatedTensor, *saved: SimulatedTensor) -> Grads:
        return tuple(tape.new(count, dtype) for count in counts)

    return tape.record_op(tape.new(weight.count, dtype), (down, up), backward, down, up)


def _rows(
    tape: AutogradSimulator, x: SimulatedTensor, index: SimulatedTensor, count: int
) -> SimulatedTensor:
    """Return `x[index]`; the gradient is added into a tensor of zeros.

    Args:
        tape: Records the operation.
        x: Input.
        index: Indices of rows, saved for the backward pass.
        count: Elements of the result.
    """
    whole, dtype = x.count, x.dtype
    y = tape.new(count, dtype)
    return tape.record_op(y, (x,), lambda g, saved: (tape.new(whole, dtype),), index)


def _gate(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    """Return `act(gate) * up` for both halves of `x`, whose gradients are joined in one tensor."""
    whole, half, dtype = x.count, x.count // 2, x.dtype
    of_up: list[SimulatedTensor] = []

    def up_back(g: SimulatedTensor) -> Grads:
        of_up.append(g)
        return (None,)

    def gate_back(g: SimulatedTensor) -> Grads:
        made = tape.new(whole, dtype)
        of_up.clear()
        return (made,)

    # The engine runs the node of the higher number first: that of `up`.
    gate = tape.record_op(SimulatedTensor(half, dtype, x.storage), (x,), gate_back)
    up = tape.record_op(SimulatedTensor(half, dtype, x.storage), (x,), up_back)
    return mul(tape, activation(tape, gate), up)


def _normalized(tape: AutogradSimulator, scores: SimulatedTensor) -> SimulatedTensor:
    """Divide the scores of each token by their sum, in place: autograd saves a copy of them."""
    count = scores.count
    before = tape.new(count, "fp32")

    def backward(g: SimulatedTensor, saved: SimulatedTensor) -> Grads:
        return (tape.new(count, "fp32"),)

    view = SimulatedTensor(count, scores.dtype, scores.storage)
    return tape.record_op(view, (scores,), backward, before)
