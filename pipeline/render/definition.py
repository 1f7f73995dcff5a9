"""Definition of a pipeline, as a pure function of its file, its jobs and the platform."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from evaluation.challenger import OPEN
from launch.aws.platform_parameters import PlatformParameters
from pipeline.config import AnyStep, GateStep
from pipeline.load import LoadedPipeline
from pipeline.render.references import property_of
from training.errors import JobError, Problem

VERSION = "2020-12-01"
DECISIONS = "decisions"
"""Property file of an evaluation, with the decision of each gate."""
REASON = "Reason"
"""Parameter of an execution: what started it."""


@dataclass(frozen=True)
class RenderedStep:
    """Steps of the definition that one step of the file becomes.

    Attributes:
        steps: The steps, in order.
        objects: Content of files that they read, by their key in the bucket of data.
    """

    steps: tuple[dict[str, Any], ...]
    objects: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Definition:
    """Rendered pipeline.

    Attributes:
        document: The definition.
        objects: Content of files that it reads, by their key in the bucket of data.
    """

    document: dict[str, Any]
    objects: Mapping[str, bytes]


def pipeline_name(pipeline: LoadedPipeline, platform: PlatformParameters) -> str:
    """Return the name of a pipeline in AWS, which begins with the prefix of the environment."""
    return f"{platform.environment.prefix}-{pipeline.spec.name}"


def assemble(pipeline: LoadedPipeline, rendered: Mapping[str, RenderedStep]) -> Definition:
    """Return the definition: steps behind the same gates are inside one Condition step.

    Args:
        pipeline: The pipeline.
        rendered: Steps that are not gates, by name.

    Raises:
        JobError: A step uses one that runs behind other gates.
    """
    gates = _effective_gates(pipeline)
    problems = list(_nesting_problems(pipeline, gates))
    if problems:
        raise JobError(str(pipeline.path), problems)
    steps: list[dict[str, Any]] = []
    behind: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for name in pipeline.order:
        if name in rendered:
            place = behind.setdefault(gates[name], []) if gates[name] else steps
            place += rendered[name].steps
    used = {gate for names in behind for gate in names}
    for name, step in pipeline.steps.items():
        if isinstance(step, GateStep) and name not in used:
            behind.setdefault((name,), [])  # its decision alone: `otherwise: fail`
    steps += [_condition(pipeline, names, inside) for names, inside in behind.items()]
    objects = {key: value for one in rendered.values() for key, value in one.objects.items()}
    document = {
        "Version": VERSION,
        "Metadata": {},
        "Parameters": [{"Name": REASON, "Type": "String", "DefaultValue": "started by hand"}],
        "Steps": steps,
    }
    return Definition(document, objects)


def _effective_gates(pipeline: LoadedPipeline) -> dict[str, tuple[str, ...]]:
    """Return the gates of each step, those of the steps that it uses included."""
    gates: dict[str, tuple[str, ...]] = {}
    for name in pipeline.order:
        step = pipeline.steps[name]
        found = list(step.gate)
        for other, kind in step.uses().values():
            if kind != "decision":
                found += gates[other]
        gates[name] = tuple(dict.fromkeys(found))
    return gates


def _nesting_problems(
    pipeline: LoadedPipeline, gates: Mapping[str, tuple[str, ...]]
) -> Iterator[Problem]:
    """Yield steps that SageMaker could not reach: what is inside a Condition is seen inside it."""
    for name, step in pipeline.steps.items():
        for key, (other, _) in step.uses().items():
            if gates[other] and gates[other] != gates[name]:
                message = f"{other} runs behind {', '.join(gates[other])}, and {name} not only"
                fix = "Give both the same gates to run this pipeline in AWS"
                yield Problem(f"steps.{name}.{key}", message, other, fix)


def _condition(
    pipeline: LoadedPipeline, names: tuple[str, ...], inside: list[dict[str, Any]]
) -> dict[str, Any]:
    gates = {name: pipeline.steps[name] for name in names}
    fails = [name for name, gate in gates.items() if _fails(gate)]
    message = f"The gate {', '.join(fails)} is closed; the log of the evaluation has the reasons"
    end = {
        "Name": f"{'-'.join(fails)}-closed",
        "Type": "Fail",
        "Arguments": {"ErrorMessage": message},
    }
    return {
        "Name": "-".join(names),
        "Type": "Condition",
        "Arguments": {
            "Conditions": [
                {
                    "Type": "Equals",
                    "LeftValue": property_of(gate.evaluation, DECISIONS, f"{name}.decision"),
                    "RightValue": OPEN,
                }
                for name, gate in gates.items()
                if isinstance(gate, GateStep)
            ],
            "IfSteps": inside,
            "ElseSteps": [end] if fails else [],
        },
    }


def _fails(step: AnyStep) -> bool:
    return isinstance(step, GateStep) and step.otherwise == "fail"
