"""Mean weights that a composition of adapters gives its members on held-out rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from training.adapters.composition.combiners.base import ForwardState, WeightRecorder
from training.adapters.composition.tuner import ComposedConfig, Tree, numbered
from training.config.composition import NONE, combiner_from
from training.data.tokenization.token_rows import IGNORE
from training.trainer.metrics import NextTokenMetric, Sums, add_sums, means


def weighs_by_input(model: Any) -> bool:
    """Return True if a model has a composition whose weights depend on the input."""
    config = getattr(model, "peft_config", {}).get("default")
    return isinstance(config, ComposedConfig) and any(
        not combiner_from(part["how"]).linear
        for part in numbered(config.tree).values()
        if "how" in part
    )


class MemberWeightsMetric:
    """Mean weight of each member, over supervised tokens and layers.

    A member of a nested composition is named by its path, such as `pair.support`.

    Args:
        model: The model with the composition.
    """

    def __init__(self, model: Any):
        self._state: ForwardState = model.base_model.forward_state
        self._recorder = WeightRecorder()
        tree = model.peft_config["default"].tree
        paths = _paths(tree)
        self._choices = {
            f"default.{number}": _choices(part, paths[number])
            for number, part in numbered(tree).items()
            if "how" in part
        }

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the weights of the forward passes in this context."""
        self._state.recorder = self._recorder
        try:
            yield
        finally:
            self._state.recorder = None

    def measure_batch(self, model: Any, batch: dict[str, Any]) -> Sums:
        """Return the summed weight and the tokens of each choice in one batch.

        Args:
            model: The model, wrapped by its engine if it has one.
            batch: Rows collated by `SequenceCollator`.
        """
        self._recorder.counted = _predicting(batch["labels"])
        NextTokenMetric().measure_batch(model, batch)
        sums: Sums = {}
        for name, (weights, tokens) in self._recorder.take().items():
            names = self._choices[name]
            if len(names) > len(weights):
                weights = [*weights, tokens - sum(weights)]
            own = zip(names, weights, strict=True)
            sums = add_sums([sums, {choice: (weight, tokens) for choice, weight in own}])
        return sums

    def aggregate(self, sums: Sums) -> dict[str, float]:
        """Return the mean weight of each choice."""
        return means(sums)


def _predicting(labels: Any) -> Any:
    """Return a mask of the tokens that predict a supervised token, `[batch, length]`."""
    predicting = (labels != IGNORE).roll(-1, dims=1)
    predicting[:, -1] = False
    return predicting


def _paths(tree: Tree) -> dict[str, str]:
    """Return the prefix of the members' names of each part of a tree, by its number."""
    prefixes: list[str] = []

    def visit(part: Tree, prefix: str) -> None:
        prefixes.append(prefix)
        for member in part.get("members", ()):
            visit(member, f"{prefix}{member['name']}.")

    visit(tree, "")
    return {str(number): prefix for number, prefix in enumerate(prefixes)}


def _choices(part: Tree, prefix: str) -> list[str]:
    """Return the names that a combiner chooses from; `none` last if no adapter is a choice."""
    names = [f"{prefix}{member['name']}" for member in part["members"]]
    return [*names, f"{prefix}{NONE}"] if part["how"].get("allow_none") else names
