"""Check of a definition: each step against the request of its operation in botocore's models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

OPERATIONS = {
    "Training": ("CreateTrainingJob", "TrainingJobName"),
    "Processing": ("CreateProcessingJob", "ProcessingJobName"),
    "RegisterModel": ("CreateModelPackage", None),
}
"""Kind of a step -> its operation, and the name that SageMaker adds."""
_OTHERS = ("Condition", "Fail", "Lambda")
_MAX_BYTES = 1 << 20
_MAX_STEPS = 50
_STEP = re.compile(r"Steps\.([A-Za-z0-9-]+)")
_NAME = re.compile(r"[A-Za-z0-9](-*[A-Za-z0-9]){0,63}")


def definition_problems(document: dict[str, Any]) -> list[str]:
    """Return what SageMaker would refuse in a definition, or only find when a step starts.

    Args:
        document: The definition.
    """
    problems = []
    size = len(json.dumps(document))
    if size > _MAX_BYTES:
        problems.append(f"the definition has {size:,} bytes, more than {_MAX_BYTES:,}")
    steps = list(_walk(document["Steps"], ()))
    if len(steps) > _MAX_STEPS:
        problems.append(f"{len(steps)} steps, more than {_MAX_STEPS}")
    model = _sagemaker()
    seen: dict[str, tuple[str, ...]] = {}
    for inside, step in steps:
        name = step["Name"]
        if name in seen:
            problems.append(f"{name}: two steps have this name")
        if not _NAME.fullmatch(name):
            problems.append(f"{name}: not a name of a step: letters, digits, hyphens, at most 64")
        seen[name] = inside
        problems += [f"{name}: {one}" for one in _step_problems(step, model)]
    for inside, step in steps:
        for other in sorted(set(_STEP.findall(_own_text(step)))):
            if other not in seen:
                problems.append(f"{step['Name']}: refers to {other}, which does not exist")
            elif seen[other] != inside[: len(seen[other])]:
                problems.append(f"{step['Name']}: refers to {other}, which a condition may skip")
    return problems


@cache
def _sagemaker() -> ServiceModel:
    return ServiceModel(Loader().load_service_model("sagemaker", "service-2"), "sagemaker")


def _step_problems(step: dict[str, Any], model: ServiceModel) -> Iterator[str]:
    kind, arguments = step["Type"], step["Arguments"]
    if kind in OPERATIONS:
        operation, name = OPERATIONS[kind]
        shape = model.operation_model(operation).input_shape
        request = _resolved(arguments)
        if name is not None and name in request:
            yield f"{name} is chosen by SageMaker"
        if name is not None:
            request[name] = "name"
        report = ParamValidator().validate(request, shape)
        if report.has_errors():
            yield from report.generate_report().splitlines()
    elif kind not in _OTHERS:
        yield f"unknown type {kind}"
    elif kind == "Condition" and not arguments["Conditions"]:
        yield "has no condition"


def _walk(
    steps: list[dict[str, Any]], inside: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield each step with the branches that it is inside of."""
    for step in steps:
        yield inside, step
        if step["Type"] == "Condition":
            for branch in ("IfSteps", "ElseSteps"):
                yield from _walk(step["Arguments"][branch], (*inside, f"{step['Name']}/{branch}"))


def _own_text(step: dict[str, Any]) -> str:
    """Return the text of a step without the steps inside it."""
    arguments = step["Arguments"]
    if step["Type"] == "Condition":
        arguments = arguments["Conditions"]
    return json.dumps(arguments)


def _resolved(value: Any) -> Any:
    """Return a request with a text in place of each reference."""
    if isinstance(value, dict):
        if len(value) == 1 and next(iter(value)) in ("Get", "Std:Join", "Std:JsonGet"):
            return "s3://bucket/resolved"
        return {key: _resolved(item) for key, item in value.items()}
    return [_resolved(item) for item in value] if isinstance(value, list) else value
