"""Shape of a decoder: the sizes of its weights, by their names in Transformers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

ROUTER, GATE_UP, DOWN = "mlp.gate.weight", "mlp.experts.gate_up_proj", "mlp.experts.down_proj"
"""Names in a layer of the weights of a mixture: the router, and the experts in one tensor each."""


@dataclass(frozen=True)
class ModelShape:
    """A decoder.

    Attributes:
        family: `model_type` of its `config.json`.
        hidden: Width of the residual stream.
        intermediate: Width of the MLP.
        layers: How many.
        heads: Query heads.
        kv_heads: Key and value heads.
        head_dim: Width of a head.
        vocab: Rows of the embeddings.
        tied: Whether input and output embeddings are one.
        context: Longest row, in tokens.
        linears: (outputs, inputs) of a layer's linear maps, by module name.
        biases: Elements of a layer's biases, by module name.
        norms: Elements of a layer's norms, by module name.
        norm: Which kind they are; `layer` has a bias as well.
        positions: Rows of a table of positions, 0 where they are rotated.
        parallel: Whether attention and MLP read the same input.
        experts: Of a mixture, 0 where there is one MLP.
        experts_per_token: Of those, how many see a token.
        expert_width: Width of the MLP of one expert.
        shared_experts: Experts that see every token, in addition to `experts`; they are one MLP.
        balanced: Whether the loss includes a load-balancing loss of the router logits.
        scores: Whether it puts out one number for a text in place of the next token.
        dtype: Dtype of its files, as its `config.json` declares; empty if it does not.
        notes: What a reader of the plan should know of it.
    """

    family: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    context: int
    linears: dict[str, tuple[int, int]]
    biases: dict[str, int] = field(default_factory=dict)
    norms: dict[str, int] = field(default_factory=dict)
    norm: Literal["rms", "gemma", "layer"] = "rms"
    positions: int = 0
    parallel: bool = False
    experts: int = 0
    experts_per_token: int = 0
    expert_width: int = 0
    shared_experts: int = 0
    balanced: bool = False
    scores: bool = False
    dtype: str = ""
    notes: tuple[str, ...] = ()

    def __hash__(self) -> int:
        sizes = (self.hidden, self.intermediate, self.layers, self.vocab, self.heads)
        return hash((self.family, sizes, *self.linears.items()))

    @property
    def per_layer(self) -> int:
        """Parameters of one layer."""
        matrices = sum(rows * columns for rows, columns in self.linears.values())
        matrices += sum(self.mixture.values())
        norms = sum(self.norms.values()) * (2 if self.norm == "layer" else 1)
        return matrices + sum(self.biases.values()) + norms

    @property
    def outside(self) -> int:
        """Parameters outside the layers; tied embeddings count once."""
        embeddings = self.vocab * self.hidden * (1 if self.tied or self.scores else 2)
        last_norm = self.hidden * (2 if self.norm == "layer" else 1)
        head = self.hidden if self.scores else 0
        return embeddings + self.positions * self.hidden + last_norm + head

    @property
    def parameters(self) -> int:
        """Parameters of the model."""
        return self.outside + self.layers * self.per_layer

    @property
    def active(self) -> int:
        """Parameters that a token is multiplied with: no input embeddings, few experts."""
        matrices = sum(rows * columns for rows, columns in self.linears.values())
        if self.experts:
            of_experts = self.mixture[GATE_UP] + self.mixture[DOWN]
            matrices += of_experts * self.experts_per_token // self.experts
        return self.layers * matrices + self.hidden * (1 if self.scores else self.vocab)

    @property
    def mixture(self) -> dict[str, int]:
        """Elements of the router and of all experts of a layer, by name; empty with one MLP."""
        if not self.experts:
            return {}
        matrix = self.experts * self.expert_width * self.hidden
        return {ROUTER: self.experts * self.hidden, GATE_UP: 2 * matrix, DOWN: matrix}
