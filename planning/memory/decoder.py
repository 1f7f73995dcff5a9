"""Forward pass of a decoder, operation by operation.

Models `transformers/models/llama/modeling_llama.py`. The order of operations, and the point at
which a local variable goes out of scope, decide the peak: keep both when editing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from planning.memory.adapters import (
    Adapter,
    BottleneckCost,
    FourBitLayout,
    LoraCost,
    LowRankFactors,
    SoftPromptCost,
    adapted_linear,
    bottleneck,
    scaled_linear,
)
from planning.memory.attention import AttentionShape, attention_forward
from planning.memory.autograd import AutogradSimulator
from planning.memory.experts import Experts, expert_outputs, route
from planning.memory.ops import (
    activation,
    add,
    apply_rotary,
    cast,
    cat,
    embedding,
    mul,
    rms_norm,
)
from planning.memory.tensors import Grads, SimulatedParameter, SimulatedTensor


@dataclass
class Layer:
    """Weights of one layer, by their module names in Transformers."""

    linears: dict[str, SimulatedParameter]
    norms: dict[str, SimulatedParameter]
    biases: dict[str, SimulatedParameter] = field(default_factory=dict)
    adapters: dict[str, tuple[SimulatedParameter, ...]] = field(default_factory=dict)
    experts: Experts | None = None

    def weights(self) -> Iterator[SimulatedParameter]:
        """Iterate over the weights in the order of `model.parameters()`."""
        for name, weight in self.linears.items():
            yield weight
            if name in self.biases:
                yield self.biases[name]
        yield from (bias for name, bias in self.biases.items() if name not in self.linears)
        if self.experts is not None:
            yield from self.experts.weights.values()
        yield from self.norms.values()
        for more in self.adapters.values():
            yield from more
        if self.experts is not None:
            for pair in self.experts.adapters.values():
                yield from pair


class KvCache(Protocol):
    """Interface of a key-value cache."""

    def update(
        self, tape: AutogradSimulator, layer: int, k: SimulatedTensor, v: SimulatedTensor
    ) -> tuple[SimulatedTensor, SimulatedTensor]:
        """Append keys and values to a layer of the cache.

        Args:
            tape: Records the operations.
            layer: Index of the layer.
            k: Keys of the current tokens.
            v: Values of the current tokens.

        Returns:
            All keys and all values of the layer.
        """


class Prefix:
    """Trained keys and values that precede those of the row (prefix tuning, arXiv:2101.00190).

    Args:
        whole: Keys and values of all layers in one tensor.
        count: Number of elements of one layer's keys.
    """

    def __init__(self, whole: SimulatedTensor, count: int):
        self.whole = whole
        self.count = count

    def update(
        self, tape: AutogradSimulator, layer: int, k: SimulatedTensor, v: SimulatedTensor
    ) -> tuple[SimulatedTensor, SimulatedTensor]:
        """Return the prefix followed by the keys and values of the row.

        Args:
            tape: Records the operations.
            layer: Index of the layer; all layers have prefixes of the same size.
            k: Keys of the row.
            v: Values of the row.
        """
        return cat(tape, self._part(tape), k), cat(tape, self._part(tape), v)

    def _part(self, tape: AutogradSimulator) -> SimulatedTensor:
        whole = self.whole

        def backward(g: SimulatedTensor) -> Grads:
            return (SimulatedTensor(whole.count, g.dtype, g.storage),)

        return tape.record_op(
            SimulatedTensor(self.count, whole.dtype, whole.storage), (whole,), backward
        )


Update = Callable[
    [AutogradSimulator, SimulatedTensor, SimulatedTensor], tuple[SimulatedTensor, SimulatedTensor]
]
"""Function that prepends the cached keys and values of one layer to the current ones."""


def layer_cache(cache: KvCache | None, layer: int) -> Update | None:
    """Return the update function of one layer of a cache; None without a cache."""
    if cache is None:
        return None
    return lambda tape, k, v: cache.update(tape, layer, k, v)


@dataclass
class Decoder:
    """Decoder on one device.

    Attributes:
        embed: Input embeddings.
        layers: Decoder layers in order.
        norm: Final norm.
        head: Output embeddings; the same object as `embed` if they are tied.
        size: Dimensions of attention, those of the micro-batch included.
        hidden: Size of a hidden state.
        attention: `eager`, `sdpa` or `flash_attention_2`.
        masked: True if attention receives a mask: rows hold several documents, or padding.
        checkpointing: True if layers are recomputed in the backward pass.
        input_requires_grad: True if the embedded input needs a gradient. PEFT enables it so that
            checkpointed layers, whose weights are frozen, still belong to the graph.
        adapter: Adapter trained in place of the weights.
        four_bit: Layout of linear layers in 4 bits.
        virtual: Trained virtual tokens.
        cache: Key-value cache of earlier tokens.
        critic: Second decoder that reads the same rows and is trained together with this one.
        idle: Original weights of modules that are trained in full as copies.
        balanced: True if the loss includes a load-balancing loss of the router logits.
        router_logits: Router logits of the last forward pass with gradients.
        recording: True while they are kept: in a forward pass, and not when layers are recomputed.
    """

    embed: SimulatedParameter
    layers: list[Layer]
    norm: SimulatedParameter
    head: SimulatedParameter
    size: AttentionShape
    hidden: int
    attention: str
    masked: bool
    checkpointing: bool = False
    input_requires_grad: bool = False
    adapter: Adapter | None = None
    four_bit: FourBitLayout | None = None
    virtual: SimulatedParameter | None = None
    cache: KvCache | None = None
    critic: Decoder | None = None
    idle: list[SimulatedParameter] = field(default_factory=list)
    balanced: bool = False
    router_logits: list[SimulatedTensor] = field(default_factory=list)
    recording: bool = False

    def forward(self, tape: AutogradSimulator) -> SimulatedTensor:
        """Return the last hidden states after the final norm, `[rows, length, hidden]`."""
        tokens = self.size.rows * self.size.length
        hidden = self._embedded(tape, tokens)
        if self.input_requires_grad and hidden.node is None and tape.grad_enabled:
            hidden.node = SimulatedParameter(hidden.count, hidden.dtype)
        mask = self._mask(tape)
        cos = tape.new(tokens * self.size.width, hidden.dtype)
        sin = tape.new(tokens * self.size.width, hidden.dtype)
        cache = self._prefix(tape) or self.cache
        self.router_logits, self.recording = [], self.balanced and tape.grad_enabled
        for index, layer in enumerate(self.layers):
            block = partial(self._layer, tape, layer, layer_cache(cache, index), mask, (cos, sin))
            hidden = tape.checkpoint(block, hidden) if self.checkpointing else block(hidden)
            del block
            hidden = tape.record_peak_at(hidden, self._after(index))
        self.recording = False
        return rms_norm(tape, hidden, self.norm)

    def take_router_logits(self) -> list[SimulatedTensor]:
        """Return the router logits and forget them, so that their graph can be freed."""
        taken, self.router_logits = self.router_logits, []
        return taken

    def _embedded(self, tape: AutogradSimulator, tokens: int) -> SimulatedTensor:
        """Return the embedded rows, preceded by the virtual tokens of prompt tuning."""
        if (
            self.virtual is None
            or not isinstance(self.adapter, SoftPromptCost)
            or self.adapter.prefix
        ):
            return embedding(tape, self.embed, tokens, self.hidden)
        ahead = self.size.rows * self.adapter.tokens
        rows = embedding(tape, self.embed, tokens - ahead, self.hidden)
        vectors = embedding(tape, self.virtual, ahead, self.hidden)
        return cat(tape, cast(tape, vectors, rows.dtype), rows)

    def _prefix(self, tape: AutogradSimulator) -> Prefix | None:
        """Return the trained keys and values of all layers, looked up for every row."""
        adapter = self.adapter
        if self.virtual is None or not isinstance(adapter, SoftPromptCost) or not adapter.prefix:
            return None
        keys = self.size.rows * adapter.tokens * self.size.kv_heads * self.size.width
        whole = embedding(tape, self.virtual, 2 * len(self.layers), keys)
        return Prefix(cast(tape, whole, self.embed.dtype), keys)

    def _after(self, index: int) -> str:
        """Name the phase that ends when the backward pass arrives at the output of a layer."""
        left = len(self.layers) - index
        return {1: "loss", 2: "last layer"}.get(left, "middle")

    def _mask(self, tape: AutogradSimulator) -> SimulatedTensor | None:
        if not self.masked or self.attention == "flash_attention_2":
            return None
        before = self.adapter.tokens if isinstance(self.adapter, SoftPromptCost) else 0
        return tape.new(self.size.rows * self.size.length * (self.size.length + before), "bool")

    def _layer(
        self,
        tape: AutogradSimulator,
        layer: Layer,
        update: Update | None,
        mask: SimulatedTensor | None,
        angles: tuple[SimulatedTensor, SimulatedTensor],
        x: SimulatedTensor,
    ) -> SimulatedTensor:
        residual = x
        x = rms_norm(tape, x, layer.norms["input_layernorm"])
        x = self._bottleneck(
            tape, layer, "attention", x, self._attention(tape, layer, update, mask, angles, x)
        )
        x = add(tape, residual, x)
        residual = x
        x = rms_norm(tape, x, layer.norms["post_attention_layernorm"])
        x = self._bottleneck(tape, layer, "mlp", x, self._mlp(tape, layer, x))
        return add(tape, residual, x)

    def _bottleneck(
        self,
        tape: AutogradSimulator,
        layer: Layer,
        name: str,
        before: SimulatedTensor,
        after: SimulatedTensor,
    ) -> SimulatedTensor:
        """Return the output of a sublayer with that of its bottleneck adapter, if it has one."""
        if not isinstance(self.adapter, BottleneckCost) or name not in layer.adapters:
            return after
        return bottleneck(tape, self.adapter, layer.adapters[name], before, after)

    def _attention(
        self,
        tape: AutogradSimulator,
        layer: Layer,
        update: Update | None,
        mask: SimulatedTensor | None,
        angles: tuple[SimulatedTensor, SimulatedTensor],
        x: SimulatedTensor,
    ) -> SimulatedTensor:
        q = self._linear(tape, layer, "self_attn.q_proj", x, self.hidden)
        k = self._linear(tape, layer, "self_attn.k_proj", x, self.hidden)
        v = self._linear(tape, layer, "self_attn.v_proj", x, self.hidden)
        if "self_attn.q_norm" in layer.norms:
            q = rms_norm(tape, q, layer.norms["self_attn.q_norm"])
            k = rms_norm(tape, k, layer.norms["self_attn.k_norm"])
        rotated = apply_rotary(tape, q, *angles), apply_rotary(tape, k, *angles)
        q, k = rotated
        del rotated
        if update is not None:
            k, v = update(tape, k, v)
        out = attention_forward(tape, self.attention, q, k, v, mask, self.size)
        return self._linear(tape, layer, "self_attn.o_proj", out, self.size.heads * self.size.width)

    def _mlp(self, tape: AutogradSimulator, layer: Layer, x: SimulatedTensor) -> SimulatedTensor:
        if layer.experts is None:
            return self._gated(tape, layer, x)
        logits, scores, chosen = route(tape, x, layer.experts)
        if self.recording:
            self.router_logits.append(logits)
        del logits
        routed = expert_outputs(tape, x, scores, chosen, layer.experts)
        del scores, chosen
        if "mlp.gate_proj" not in layer.linears:
            return routed
        return add(tape, routed, self._gated(tape, layer, x))

    def _gated(self, tape: AutogradSimulator, layer: Layer, x: SimulatedTensor) -> SimulatedTensor:
        gate = activation(tape, self._linear(tape, layer, "mlp.gate_proj", x, self.hidden))
        product = mul(tape, gate, self._linear(tape, layer, "mlp.up_proj", x, self.hidden))
        width = layer.linears["mlp.down_proj"].width
        return self._linear(tape, layer, "mlp.down_proj", product, width)

    def _linear(
        self, tape: AutogradSimulator, layer: Layer, name: str, x: SimulatedTensor, width: int
    ) -> SimulatedTensor:
        weight, lora = layer.linears[name], None
        pair: tuple[SimulatedParameter, ...] | None = None
        if isinstance(self.adapter, LowRankFactors) and name in layer.adapters:
            (factors,) = layer.adapters[name]
            return scaled_linear(tape, x, weight, width, factors, self.four_bit)
        if isinstance(self.adapter, LoraCost) and name in layer.adapters:
            lora, pair = self.adapter, layer.adapters[name]
        # Modules trained in full are not quantized.
        four_bit = None if weight.requires_grad else self.four_bit
        return adapted_linear(tape, x, weight, width, pair, lora, four_bit)
