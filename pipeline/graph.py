"""Graph of a pipeline's steps: its problems, and the order in which they run."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

from pipeline.config import EvaluateStep, PipelineStep
from training.errors import Problem

_GIVEN_BY = {
    "data": "prepare",
    "model": "train",
    "evaluation": "evaluate",
    "decision": "gate",
    "version": "register",
}
"""Kind of an output -> kind of the step that gives it."""


def graph_problems(steps: Mapping[str, PipelineStep]) -> Iterator[Problem]:
    """Yield unknown steps, inputs that no step makes, cycles, and evaluations in one place.

    Args:
        steps: Steps by name.
    """
    for name, step in steps.items():
        for key, (other, kind) in step.uses().items():
            yield from _use_problems(f"steps.{name}.{key}", other, kind, steps)
    try:
        in_order(steps)
    except CycleError as error:
        path = " -> ".join(reversed(error.args[1]))
        fix = "Remove one of these uses"
        yield Problem("steps", "steps wait for each other", path, fix)
    places: dict[tuple[str, str], str] = {}
    for name, step in steps.items():
        if isinstance(step, EvaluateStep):
            first = places.setdefault((step.model, step.suite), name)
            if first != name:
                message = f"{first} evaluates the same model on the same suite"
                yield Problem(f"steps.{name}", message, fix="Use its result instead")


def in_order(steps: Mapping[str, PipelineStep]) -> tuple[str, ...]:
    """Return the names of the steps, each after those that it uses, else as in the file.

    Args:
        steps: Steps by name.

    Raises:
        CycleError: Steps wait for each other.
    """
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for name, step in steps.items():
        used = [other for other, _ in step.uses().values() if other in steps]
        sorter.add(name, *used)
    sorter.prepare()
    position = {name: index for index, name in enumerate(steps)}
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=position.__getitem__)
        order += ready
        sorter.done(*ready)
    return tuple(order)


def _use_problems(
    key: str, other: str, kind: str, steps: Mapping[str, PipelineStep]
) -> Iterator[Problem]:
    if other not in steps:
        close = difflib.get_close_matches(other, steps, n=1)
        hint = f"Did you mean {close[0]}? " if close else ""
        fix = f"{hint}Steps: {', '.join(steps)}"
        yield Problem(key, "there is no such step", other, fix)
    elif steps[other].gives != kind:
        makers = [name for name, step in steps.items() if step.gives == kind]
        fix = f"Name a step of the kind {_GIVEN_BY[kind]}"
        fix += f": {', '.join(makers)}" if makers else ", of which the pipeline has none"
        message = f"needs {_with_article(kind)}, and the step gives"
        yield Problem(key, f"{message} {_with_article(steps[other].gives)}", other, fix)


def _with_article(kind: str) -> str:
    if kind == "data":
        return kind
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
