"""Rules by which the service refuses a definition before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from emulator.botocore_schema import operation
from emulator.pipelines.definition import DefinedStep, ParsedDefinition
from emulator.pipelines.job_kinds import JOB_KINDS
from emulator.pipelines.references import UnresolvedReference, get_paths, path_parts

OTHER_KINDS = ("Condition", "Lambda", "Fail")
_NAME = re.compile(r"[A-Za-z0-9](-*[A-Za-z0-9]){0,63}")
_CONDITIONS = {
    *("Equals", "GreaterThan", "GreaterThanOrEqualTo", "LessThan", "LessThanOrEqualTo"),
    *("In", "Not", "Or"),
}
_EXECUTION = {
    *("PipelineExecutionId", "PipelineExecutionArn", "PipelineName", "PipelineArn"),
    *("StartDateTime", "CurrentDateTime"),
}


def definition_errors(definition: ParsedDefinition) -> list[str]:
    """Return why the service would refuse a definition."""
    steps = {step.name: step for step in definition.steps}
    errors = [] if definition.steps else ["A pipeline needs a step."]
    if len(steps) < len(definition.steps):
        errors.append("Step names must be unique.")
    for step in definition.steps:
        own = [*_step_errors(step), *_reference_errors(step, steps, definition)]
        errors += [f"{step.name}: {one}" for one in own]
    return errors or [f"Cycle: {', '.join(one)}." for one in _cycles(steps)]


def _step_errors(step: DefinedStep) -> Iterator[str]:
    if not _NAME.fullmatch(step.name):
        yield "The name does not match the pattern of step names."
    if step.kind in JOB_KINDS:
        kind = JOB_KINDS[step.kind]
        shape = operation("sagemaker", kind.create).input_shape
        members = shape.members.keys() - {kind.name}
        for unknown in sorted(step.arguments.keys() - members):
            yield f"Unknown Argument member '{unknown}'."
    elif step.kind not in OTHER_KINDS:
        yield f"The step type {step.kind} is not emulated."
    if step.kind == "Lambda" and "FunctionArn" not in step.document:
        yield "Missing required field FunctionArn."
    if step.kind == "Condition":
        unknown = sorted({str(one["Type"]) for one in step.arguments or ()} - _CONDITIONS)
        if unknown or not step.arguments:
            yield f"Unknown condition type {', '.join(unknown)}." if unknown else "No condition."


def _reference_errors(
    step: DefinedStep, steps: dict[str, DefinedStep], definition: ParsedDefinition
) -> Iterator[str]:
    for other in sorted(step.waits_for):
        if other not in steps:
            yield f"The step {other} does not exist."
        elif steps[other].branches != step.branches[: len(steps[other].branches)]:
            yield f"The step {other} is inside a condition, and cannot be reached from outside."
    files = set(_json_get_paths(step.arguments))
    for path in get_paths(step.arguments):
        root, *parts = path_parts(path)
        if root == "Parameters" and parts[0] not in definition.parameters:
            yield f"The parameter {parts[0]} is not defined."
        elif root == "Execution" and parts[0] not in _EXECUTION:
            yield f"Execution.{parts[0]} does not exist."
        elif root not in ("Parameters", "Execution", "Steps"):
            yield f"{path} does not begin with Steps, Parameters or Execution."
        elif root == "Steps" and str(parts[0]) in steps:
            yield from _property_errors(steps[str(parts[0])], parts[1:], path, path in files)


def _property_errors(
    step: DefinedStep, parts: list[str | int], path: str, is_file: bool
) -> Iterator[str]:
    """Yield why a reference to a property of a step can never be resolved."""
    if is_file:
        if parts[:1] != ["PropertyFiles"] or parts[-1] not in step.property_files:
            yield f"The property file {path} is not defined."
    elif step.kind == "Lambda":
        if parts[:1] != ["OutputParameters"] or parts[-1] not in step.outputs:
            yield f"The output {path} is not defined."
    elif step.kind in JOB_KINDS:
        try:
            _check_shape(operation("sagemaker", JOB_KINDS[step.kind].describe).output_shape, parts)
        except UnresolvedReference:
            yield f"The property reference {path} is not defined."
    else:
        yield f"{path}: a step of type {step.kind} has no properties."


def _check_shape(shape: Any, parts: list[str | int]) -> None:
    """Raise if a response of a shape can never have what a path leads to.

    Raises:
        UnresolvedReference: It cannot.
    """
    for part in parts:
        if shape.type_name == "structure" and part in shape.members:
            shape = shape.members[part]
        elif shape.type_name == "list":
            shape = shape.member
        elif shape.type_name == "map":
            shape = shape.value
        else:
            raise UnresolvedReference(str(part))


def _json_get_paths(value: Any) -> Iterator[str]:
    """Yield the path of each property file that a value reads."""
    if isinstance(value, dict):
        if "Std:JsonGet" in value and "PropertyFile" in value["Std:JsonGet"]:
            yield from get_paths(value["Std:JsonGet"]["PropertyFile"])
        for item in value.values():
            yield from _json_get_paths(item)
    elif isinstance(value, list):
        for item in value:
            yield from _json_get_paths(item)


def _cycles(steps: dict[str, DefinedStep]) -> Iterator[list[str]]:
    """Yield the steps that wait for each other, if there are any."""
    left = {name: set(step.waits_for) for name, step in steps.items()}
    while free := [name for name, waits in left.items() if not waits]:
        for name in free:
            del left[name]
        for waits in left.values():
            waits.difference_update(free)
    if left:
        yield sorted(left)
