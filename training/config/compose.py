"""`compose:` adapters that were trained apart, and how they meet."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from training.config.adapters import AdapterSection, FrozenBase, Widths
from training.config.section import Section
from training.config.units import PositiveFloat, PositiveInt

Combination = Literal[
    "linear", "cat", "svd", "ties", "ties_svd", "dare_linear", "dare_linear_svd", "dare_ties",
    "dare_ties_svd", "magnitude_prune", "magnitude_prune_svd",
]  # fmt: skip
SAME_SHAPE: tuple[str, ...] = ("linear", "ties", "dare_linear", "dare_ties", "magnitude_prune")
"""Combinations that add A to A and B to B, and so want one rank and the same targets."""


class How(Section):
    """What every way of meeting declares."""

    linear: ClassVar[bool] = True
    """Whether the outcome is a change of weights, whatever the input."""

    def num_trained(self, members: int, model: Widths) -> int:
        """Return at most how many parameters it trains, in a model all of whose layers it is on."""
        raise NotImplementedError


class Merge(How):
    """One LoRA adapter of several, as a weighted sum; it can be trained on like any other."""

    kind: Literal["merge"]
    combination: Combination = "cat"
    """`cat` is exact and adds the ranks; `svd` is the nearest of rank `r`; `linear` is rough; TIES
    (arXiv:2306.01708), DARE (arXiv:2311.03099) and pruning by magnitude drop some updates first."""
    weights: tuple[float, ...] | None = None
    """One per adapter, in their order; 1 each when left out."""
    density: float = Field(default=0.5, gt=0, le=1)
    """Share of each update that TIES, DARE and pruning keep."""
    r: PositiveInt | None = None
    """Rank of the outcome of an `svd`; the largest of the members' when left out."""

    def num_trained(self, members: int, model: Widths) -> int:
        """Return the size of a LoRA adapter of 16 ranks per member."""
        return model.layers * 16 * members * sum(sum(pair) for pair in model.linear.values())


class Parallel(How):
    """All side by side, each times a weight per layer that is learned."""

    kind: Literal["parallel"]
    start: PositiveFloat = 1.0
    """What each weight starts from."""

    def num_trained(self, members: int, model: Widths) -> int:
        """Return how many weights there are."""
        return model.layers * members * len(model.linear)


class Gate(How):
    """All side by side, their shares decided by a small learned layer from the input."""

    linear = False

    kind: Literal["gate"]
    per: Literal["token", "sequence"] = "token"
    """`token`: from that token's hidden state. `sequence`: from the mean of all up to it, so that
    nothing is decided by what is yet to come."""

    def num_trained(self, members: int, model: Widths) -> int:
        """Return the size of the gates."""
        return model.layers * members * sum(inputs + 1 for inputs, _ in model.linear.values())


class Compose(FrozenBase, AdapterSection):
    """Several trained LoRA adapters of one base at work together."""

    impl = "training.adapters.compose:apply"

    kind: Literal["compose"]
    adapters: dict[str, str] = Field(min_length=2)
    """Folders of the adapters, by a name of your choice."""
    how: Annotated[Merge | Parallel | Gate, Field(discriminator="kind")] = Merge(kind="merge")

    def num_trained(self, model: Widths) -> int:
        """Return at most how many parameters it trains."""
        return self.how.num_trained(len(self.adapters), model)
