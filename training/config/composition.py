"""Section `compose:` of several trained adapters and the method that combines them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, TypeAdapter

from training.config.adapter_base import AdapterSection, Widths
from training.config.adapters import FrozenBase
from training.config.base import ConfigSection
from training.config.locations import AdapterLocation, DataLocation
from training.config.types import PositiveFloat, PositiveInt
from training.errors import Problem

Combination = Literal[
    "linear", "cat", "svd", "ties", "ties_svd", "dare_linear", "dare_linear_svd", "dare_ties",
    "dare_ties_svd", "magnitude_prune", "magnitude_prune_svd",
]  # fmt: skip
SAME_SHAPE: tuple[str, ...] = ("linear", "ties", "dare_linear", "dare_ties", "magnitude_prune")
"""Combinations that add A to A and B to B, and so need equal ranks and target modules."""
NONE = "none"
"""Name of the choice to use no adapter."""
_USUAL_RANK = 16
"""Rank assumed for a member whose folder has not been read."""


class CombinerConfig(ConfigSection):
    """Section of one method of combining adapters."""

    impl: ClassVar[str]
    """`module:class` that computes the weight of each member; imported only when a run starts."""
    linear: ClassVar[bool] = True
    """True if the result is a fixed change of weights, independent of the input."""

    @property
    def learns(self) -> bool:
        """True if the combiner has trainable parameters."""
        return True

    @property
    def reads_back(self) -> bool:
        """True if weights depend on the whole row so far, which must then be one document."""
        return False

    def num_trained(self, members: int, model: Widths) -> int:
        """Return an upper bound of the trainable parameters, if every layer is adapted."""
        raise NotImplementedError

    def validate_members(self, path: str, members: tuple[str, ...]) -> Iterator[Problem]:
        """Yield what does not fit the members.

        Args:
            path: Path of the section in the job.
            members: Names of the members.
        """
        yield from ()


class WeightedCombiner(CombinerConfig):
    """Combiners with one weight per member."""

    weights: tuple[float, ...] | None = None

    def validate_members(self, path: str, members: tuple[str, ...]) -> Iterator[Problem]:
        """Yield a problem unless there is one weight per member."""
        if self.weights is not None and len(self.weights) != len(members):
            yield Problem(
                f"{path}.weights",
                f"must be one number for each of the {len(members)} adapters "
                f"({', '.join(members)})",
                f"{len(self.weights)} numbers",
            )


class InputDependentCombiner(CombinerConfig):
    """Combiners that weigh the members by the input, for which "no adapter" may be a choice."""

    linear = False

    allow_none: bool = False
    """One more choice, named `none`, that uses no adapter, for inputs on which the base alone is
    best."""

    def num_choices(self, members: int) -> int:
        """Return the number of members, plus one if no adapter is a choice."""
        return members + self.allow_none

    def validate_members(self, path: str, members: tuple[str, ...]) -> Iterator[Problem]:
        """Yield a member whose name is that of the choice to use no adapter.

        Args:
            path: Path of the section in the job.
            members: Names of the members.
        """
        if self.allow_none and NONE in members:
            yield Problem(
                f"{path.removesuffix('.method')}.adapters.{NONE}",
                "with allow_none this is the name of the choice to use no adapter",
                fix="Give the adapter another name",
            )


class Merge(WeightedCombiner):
    """Merge into one LoRA adapter, a weighted sum that can be trained further."""

    impl = "training.adapters.composition.combiners.merge:merge_adapters"

    kind: Literal["merge"]
    combination: Combination = "cat"
    """`cat` is exact and adds the ranks; `svd` is the best approximation of rank `r`; `linear` is
    coarse; TIES (arXiv:2306.01708), DARE (arXiv:2311.03099) and magnitude pruning drop some
    updates first."""
    weights: tuple[float, ...] | None = None
    """One per adapter, in order; 1 each if not set."""
    density: float = Field(default=0.5, gt=0, le=1)
    """Share of each update that TIES, DARE and pruning keep."""
    r: PositiveInt | None = None
    """Rank of the result of an `svd`; the largest rank of a member if not set."""

    def num_trained(self, members: int, model: Widths) -> int:
        """Return the size of a LoRA adapter with rank 16 per member."""
        return members * _lora(model)


class Parallel(WeightedCombiner):
    """Weighted sum of the members' updates, with given or learned weights."""

    impl = "training.adapters.composition.combiners.parallel:ParallelCombiner"

    kind: Literal["parallel"]
    weights: tuple[float, ...] | None = None
    """One fixed weight per adapter, in order, for all layers; learned per layer if not set."""
    start: PositiveFloat = 1.0
    """Initial value of each learned weight."""

    @property
    def learns(self) -> bool:
        """True if the weights are learned."""
        return self.weights is None

    def num_trained(self, members: int, model: Widths) -> int:
        """Return the number of learned weights."""
        return model.layers * members * len(model.linear) if self.learns else 0


class Gate(InputDependentCombiner):
    """Weighted sum whose weights a small trained layer computes from the input."""

    impl = "training.adapters.composition.combiners.gate:GateCombiner"

    kind: Literal["gate"]
    per: Literal["token", "sequence"] = "token"
    """Input of the gate. `token`: the token's hidden state. `sequence`: the mean of the states up
    to the token, so that no later token has an influence."""

    @property
    def reads_back(self) -> bool:
        """True with `per: sequence`, which averages over the row so far."""
        return self.per == "sequence"

    def num_trained(self, members: int, model: Widths) -> int:
        """Return the number of parameters of the gates."""
        choices = self.num_choices(members)
        return model.layers * choices * sum(inputs + 1 for inputs, _ in model.linear.values())


class Stack(CombinerConfig):
    """Stack of adapters, each on top of the ones before it; only the last is trained.

    An adapter may have been trained on the base, or on the base with those before it merged in.
    """

    impl = "training.adapters.composition.combiners.stack:StackCombiner"

    kind: Literal["stack"]

    def num_trained(self, members: int, model: Widths) -> int:
        """Return the size of a LoRA adapter."""
        return _lora(model)


class Fusion(CombinerConfig):
    """AdapterFusion: attention over the adapters (Pfeiffer et al. 2021, arXiv:2005.00247).

    The query is the output of a layer; keys and values are the updates of the adapters.
    """

    impl = "training.adapters.composition.combiners.fusion:FusionCombiner"
    linear = False

    kind: Literal["fusion"]
    size: PositiveInt = 16
    """Dimension of queries and keys."""

    def num_trained(self, members: int, model: Widths) -> int:
        """Return the number of parameters of the query and key projections."""
        return model.layers * 2 * self.size * sum(outputs for _, outputs in model.linear.values())


class Route(InputDependentCombiner):
    """Router that activates one adapter, chosen from the mean of the embeddings so far."""

    impl = "training.adapters.composition.combiners.route:RouteCombiner"

    kind: Literal["route"]
    by: Literal["classifier", "centroid"] = "classifier"
    """`classifier`: a trained linear layer. `centroid`: the adapter whose training rows have the
    nearest mean; nothing is trained."""
    rows: PositiveInt = 128
    """Number of each adapter's rows that its centroid is the mean of."""
    examples: dict[str, DataLocation] = Field(default={})
    """For centroids: rows of each adapter's task, by its name, such as a JSONL file; if not set,
    the training data of the run that trained the adapter. With `allow_none` the rows of `none`
    are required."""

    @property
    def learns(self) -> bool:
        """True if a classifier is trained."""
        return self.by == "classifier"

    @property
    def reads_back(self) -> bool:
        """True: the router averages over the row so far."""
        return True

    def num_trained(self, members: int, model: Widths) -> int:
        """Return the number of parameters of the classifier; one layer decides for all."""
        return self.num_choices(members) * (model.hidden + 1) if self.learns else 0

    def validate_members(self, path: str, members: tuple[str, ...]) -> Iterator[Problem]:
        """Yield examples of adapters that do not exist, that are not used, or that are missing.

        Args:
            path: Path of the section in the job.
            members: Names of the members.
        """
        yield from super().validate_members(path, members)
        if self.by != "centroid":
            if self.examples:
                yield Problem(f"{path}.examples", "is for by: centroid", fix="Leave it out")
            return
        choices = (*members, NONE) if self.allow_none else members
        for name in self.examples:
            if name not in choices:
                yield Problem(
                    f"{path}.examples.{name}",
                    "there is no such adapter",
                    fix=f"Choose from {', '.join(choices)}",
                )
        if self.allow_none and NONE not in self.examples:
            yield Problem(
                f"{path}.examples.{NONE}",
                "is required by allow_none: no adapter's run names rows on which the base is best",
                fix="Name a file of such rows, such as general text",
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
    """Members by a name of your choice: the folder of an adapter, or another composition of
    `adapters` and `method`."""
    method: AnyCombiner = Merge(kind="merge")

    @property
    def below(self) -> dict[str, Composition]:
        """Members that are compositions of this job."""
        return {n: m for n, m in self.adapters.items() if isinstance(m, Composition)}

    @property
    def combiners(self) -> Iterator[CombinerConfig]:
        """Combiners of this composition and of all nested ones."""
        yield self.method
        for member in self.below.values():
            yield from member.combiners

    @property
    def learns(self) -> bool:
        """True if the combiner has trainable parameters."""
        # A nested merge is done once, before training, and its result is a member like any other.
        below = any(
            way.learns for m in self.below.values() for way in m.combiners if not _once(way)
        )
        return self.method.learns or (below and not _once(self.method))

    def num_trained_here(self, model: Widths) -> int:
        """Return an upper bound of the trainable parameters."""
        own = self.method.num_trained(len(self.adapters), model)
        if _once(self.method):
            return own
        below = (m.num_trained_here(model) for m in self.below.values() if not _once(m.method))
        return own + sum(below)

    def validate_members_below(self, path: str) -> Iterator[Problem]:
        """Yield what does not fit together, here and in nested compositions."""
        yield from self.method.validate_members(f"{path}.method", tuple(self.adapters))
        for name, member in self.below.items():
            where = f"{path}.adapters.{name}"
            if _once(self.method) and not _once(member.method):
                yield Problem(
                    f"{where}.method",
                    "only adapters can be merged, and this one is combined in each forward pass",
                    member.method.kind if hasattr(member.method, "kind") else "",
                    "Merge it too (method: {kind: merge}), or combine the others by another method",
                )
            yield from member.validate_members_below(where)


def _once(combiner: CombinerConfig) -> bool:
    """Return True if a combiner leaves a plain adapter behind, before training starts."""
    return isinstance(combiner, Merge)


def _lora(model: Widths) -> int:
    """Return the size of a LoRA adapter of rank 16 on every linear layer."""
    return model.layers * _USUAL_RANK * sum(sum(pair) for pair in model.linear.values())


class Compose(FrozenBase, Composition, AdapterSection):
    """Composition of several trained adapters of one base model."""

    impl = "training.adapters.compose:apply"

    kind: Literal["compose"]

    def num_trained(self, model: Widths) -> int:
        """Return an upper bound of the trainable parameters."""
        return self.num_trained_here(model)

    @property
    def mergeable(self) -> bool:
        """True if every combiner is linear; the members themselves are not read here."""
        return all(combiner.linear for combiner in self.combiners)

    @property
    def num_members(self) -> int:
        """Number of adapters in all compositions together."""
        return _count(self)


def _count(composition: Composition) -> int:
    below = composition.below
    return len(composition.adapters) - len(below) + sum(map(_count, below.values()))


def combiner_from(document: dict[str, Any]) -> CombinerConfig:
    """Return the combiner that the folder of a trained composition describes."""
    combiner: CombinerConfig = TypeAdapter(AnyCombiner).validate_python(document)
    return combiner
