"""`compose:` adapters that were trained apart, and how they meet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, TypeAdapter

from training.config.adapters import AdapterSection, FrozenBase, Widths
from training.config.base import ConfigSection
from training.config.locations import AdapterLocation, DataLocation
from training.config.types import PositiveFloat, PositiveInt
from training.errors import Problem

Combination = Literal[
    "linear", "cat", "svd", "ties", "ties_svd", "dare_linear", "dare_linear_svd", "dare_ties",
    "dare_ties_svd", "magnitude_prune", "magnitude_prune_svd",
]  # fmt: skip
SAME_SHAPE: tuple[str, ...] = ("linear", "ties", "dare_linear", "dare_ties", "magnitude_prune")
"""Combinations that add A to A and B to B, and so want one rank and the same targets."""
_USUAL_RANK = 16
"""What a member is taken to have before it is read."""


class CombinerConfig(ConfigSection):
    """What every way of meeting declares."""

    impl: ClassVar[str]
    """`module:class` of what decides how much each member counts, imported only when used."""
    linear: ClassVar[bool] = True
    """Whether the outcome is a change of weights, whatever the input."""

    @property
    def learns(self) -> bool:
        """Whether there is anything to train."""
        return True

    @property
    def reads_back(self) -> bool:
        """Whether it decides by all of a row so far, as though that were one document."""
        return False

    def num_trained(self, members: int, model: Widths) -> int:
        """Return at most how many parameters it trains, in a model all of whose layers it is on."""
        raise NotImplementedError

    def validate_members(self, path: str, members: tuple[str, ...]) -> Iterator[Problem]:
        """Yield what does not fit its members.

        Args:
            path: Where it stands in the job.
            members: Their names.
        """
        yield from ()


class WeightedCombiner(CombinerConfig):
    """Ways that know a weight per member."""

    weights: tuple[float, ...] | None = None

    def validate_members(self, path: str, members: tuple[str, ...]) -> Iterator[Problem]:
        """Yield a problem where there is not one weight per member."""
        if self.weights is not None and len(self.weights) != len(members):
            yield Problem(
                f"{path}.weights",
                f"must be one number for each of the {len(members)} adapters "
                f"({', '.join(members)})",
                f"{len(self.weights)} numbers",
            )


class Merge(WeightedCombiner):
    """One LoRA adapter of several, as a weighted sum; it can be trained on like any other."""

    impl = "training.adapters.composition.combiners.merge:merge_adapters"

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
        return members * _lora(model)


class Parallel(WeightedCombiner):
    """All side by side, each times a weight: given, or learned in each layer."""

    impl = "training.adapters.composition.combiners.parallel:ParallelCombiner"

    kind: Literal["parallel"]
    weights: tuple[float, ...] | None = None
    """One per adapter, in their order, the same in all layers and fixed; learned when left out."""
    start: PositiveFloat = 1.0
    """What each learned weight starts from."""

    @property
    def learns(self) -> bool:
        """Whether the weights are learned."""
        return self.weights is None

    def num_trained(self, members: int, model: Widths) -> int:
        """Return how many weights there are."""
        return model.layers * members * len(model.linear) if self.learns else 0


class Gate(CombinerConfig):
    """All side by side, their shares decided by a small learned layer from the input."""

    impl = "training.adapters.composition.combiners.gate:GateCombiner"
    linear = False

    kind: Literal["gate"]
    per: Literal["token", "sequence"] = "token"
    """`token`: from that token's hidden state. `sequence`: from the mean of all up to it, so that
    nothing is decided by what is yet to come."""

    @property
    def reads_back(self) -> bool:
        """Whether it takes the mean so far."""
        return self.per == "sequence"

    def num_trained(self, members: int, model: Widths) -> int:
        """Return the size of the gates."""
        return model.layers * members * sum(inputs + 1 for inputs, _ in model.linear.values())


class Stack(CombinerConfig):
    """One after another, each on what those before it made of the model; the last goes on learning.

    An adapter may have been trained on the base, or on the base with those before it merged in.
    """

    impl = "training.adapters.composition.combiners.stack:StackCombiner"

    kind: Literal["stack"]

    def num_trained(self, members: int, model: Widths) -> int:
        """Return the size of a LoRA adapter."""
        return _lora(model)


class Fusion(CombinerConfig):
    """Attention over the adapters (AdapterFusion, Pfeiffer et al. 2021, arXiv:2005.00247).

    What a layer says asks; what each adapter would add answers.
    """

    impl = "training.adapters.composition.combiners.fusion:FusionCombiner"
    linear = False

    kind: Literal["fusion"]
    size: PositiveInt = 16
    """Width of queries and keys."""

    def num_trained(self, members: int, model: Widths) -> int:
        """Return the size of what makes queries and keys."""
        return model.layers * 2 * self.size * sum(outputs for _, outputs in model.linear.values())


class Route(CombinerConfig):
    """One adapter at a time, chosen by the input: from the mean of its embeddings so far."""

    impl = "training.adapters.composition.combiners.route:RouteCombiner"
    linear = False

    kind: Literal["route"]
    by: Literal["classifier", "centroid"] = "classifier"
    """`classifier`: a linear layer that learns which adapter serves an input best. `centroid`: the
    adapter whose own rows lie nearest; nothing is learned."""
    rows: PositiveInt = 128
    """Of each adapter's own rows, how many its centroid is the mean of."""
    examples: dict[str, DataLocation] = Field(default={})
    """For centroids: where rows of each adapter's task are, by its name, such as a JSONL file; when
    left out, what the run that trained it was trained on."""

    @property
    def learns(self) -> bool:
        """Whether a classifier is trained."""
        return self.by == "classifier"

    @property
    def reads_back(self) -> bool:
        """Always: it takes the mean so far."""
        return True

    def num_trained(self, members: int, model: Widths) -> int:
        """Return the size of the classifier; one layer decides for all."""
        return members * (model.hidden + 1) if self.learns else 0

    def validate_members(self, path: str, members: tuple[str, ...]) -> Iterator[Problem]:
        """Yield examples of adapters that are not there, or that nobody reads."""
        for name in self.examples:
            if self.by != "centroid":
                yield Problem(f"{path}.examples", "is for by: centroid", fix="Leave it out")
                return
            if name not in members:
                yield Problem(
                    f"{path}.examples.{name}",
                    "there is no such adapter",
                    fix=f"Choose from {', '.join(members)}",
                )


AnyCombiner = Annotated[
    Merge | Parallel | Gate | Stack | Fusion | Route, Field(discriminator="kind")
]


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", value):
        raise ValueError("a name is made of letters, digits, - and _")
    return value


MemberName = Annotated[str, AfterValidator(_name)]


def _written(value: Any) -> str:
    return "(composition)" if isinstance(value, dict | Composition) else "(folder)"


class Composition(ConfigSection):
    """Adapters and the method that combines them; a member may itself be a composition."""

    renamed: ClassVar[Mapping[str, str]] = {"how": "method"}

    adapters: dict[
        MemberName,
        Annotated[
            Annotated[AdapterLocation, Tag("(folder)")]
            | Annotated[Composition, Tag("(composition)")],
            Discriminator(_written),
        ],
    ] = Field(min_length=2)
    """By a name of your choice: an adapter's folder, or another composition of `adapters` and
    `method`."""
    method: AnyCombiner = Merge(kind="merge")

    @property
    def below(self) -> dict[str, Composition]:
        """Members that are compositions written out here."""
        return {n: m for n, m in self.adapters.items() if isinstance(m, Composition)}

    @property
    def combiners(self) -> Iterator[CombinerConfig]:
        """Return how members meet, here and below."""
        yield self.method
        for member in self.below.values():
            yield from member.combiners

    @property
    def learns(self) -> bool:
        """Whether there is anything to train."""
        # A merge further down is done once, and its outcome is a member like any other.
        below = any(
            way.learns for m in self.below.values() for way in m.combiners if not _once(way)
        )
        return self.method.learns or (below and not _once(self.method))

    def num_trained_here(self, model: Widths) -> int:
        """Return at most how many parameters it trains."""
        own = self.method.num_trained(len(self.adapters), model)
        if _once(self.method):
            return own
        below = (m.num_trained_here(model) for m in self.below.values() if not _once(m.method))
        return own + sum(below)

    def validate_members_below(self, path: str) -> Iterator[Problem]:
        """Yield what does not fit together, here and below."""
        yield from self.method.validate_members(f"{path}.method", tuple(self.adapters))
        for name, member in self.below.items():
            where = f"{path}.adapters.{name}"
            if _once(self.method) and not _once(member.method):
                yield Problem(
                    f"{where}.method",
                    "what is merged must be an adapter, and this decides while the model runs",
                    member.method.kind if hasattr(member.method, "kind") else "",
                    "Merge it too (method: {kind: merge}), or let the others meet in another way",
                )
            yield from member.validate_members_below(where)


def _once(how: CombinerConfig) -> bool:
    """Whether a way leaves a plain adapter behind."""
    return isinstance(how, Merge)


def _lora(model: Widths) -> int:
    """Return the size of a LoRA adapter of the usual rank on every linear layer."""
    return model.layers * _USUAL_RANK * sum(sum(pair) for pair in model.linear.values())


class Compose(FrozenBase, Composition, AdapterSection):
    """Several trained adapters of one base at work together."""

    impl = "training.adapters.compose:apply"

    kind: Literal["compose"]

    def num_trained(self, model: Widths) -> int:
        """Return at most how many parameters it trains."""
        return self.num_trained_here(model)

    @property
    def mergeable(self) -> bool:
        """True if every combiner is linear; the members themselves are not read here."""
        return all(combiner.linear for combiner in self.combiners)

    @property
    def num_members(self) -> int:
        """How many adapters there are, in all compositions together."""
        return _count(self)


def _count(composition: Composition) -> int:
    below = composition.below
    return len(composition.adapters) - len(below) + sum(map(_count, below.values()))


def combiner_from(document: dict[str, Any]) -> CombinerConfig:
    """Return a way of meeting as a trained composition's folder has kept it."""
    how: CombinerConfig = TypeAdapter(AnyCombiner).validate_python(document)
    return how
