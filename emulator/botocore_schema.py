"""Validation of a request against the service's own description: types, limits, patterns, enums.

botocore checks types and minimum lengths before it sends a request, and leaves maxima, patterns and
enums to the service. Here the description that comes with botocore is applied in full.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import botocore.session
from botocore.model import OperationModel
from botocore.validate import ParamValidator


@cache
def operation(service: str, name: str) -> OperationModel:
    """Return botocore's description of an operation."""
    return botocore.session.get_session().get_service_model(service).operation_model(name)


def validation_errors(service: str, name: str, request: dict[str, Any]) -> list[str]:
    """Return everything that is wrong with a request, each with the path of the value.

    Args:
        service: Name of the service, as boto3 has it.
        name: Name of the operation, such as `CreateTrainingJob`.
        request: Parameters of the request.
    """
    shape = operation(service, name).input_shape
    report = ParamValidator().validate(request, shape)
    errors = [report.generate_report()] if report.has_errors() else []
    return [*errors, *_walk(shape, request, "")]


def _walk(shape: Any, value: Any, path: str) -> Iterator[str]:
    """Yield what botocore leaves to the service; it has reported wrong types already."""
    kind = shape.type_name
    if kind == "structure" and isinstance(value, dict):
        for key in value.keys() & shape.members.keys():
            yield from _walk(shape.members[key], value[key], f"{path}.{key}")
    elif kind == "list" and isinstance(value, list):
        yield from _check_maximum(shape, len(value), path, "members")
        for index, inner in enumerate(value):
            yield from _walk(shape.member, inner, f"{path}[{index}]")
    elif kind == "map" and isinstance(value, dict):
        for key, inner in value.items():
            yield from _walk(shape.key, key, f"{path} key")
            yield from _walk(shape.value, inner, f"{path}.{key}")
    elif kind == "string" and isinstance(value, str):
        yield from _check_string(shape, value, path)
    elif isinstance(value, int):
        yield from _check_maximum(shape, value, path, "")


def _check_maximum(shape: Any, value: int, path: str, unit: str) -> Iterator[str]:
    maximum = shape.metadata.get("max")
    if maximum is not None and value > maximum:
        yield f"{path}: {value} {unit}, and at most {maximum} are allowed".replace(" ,", ",")


def _check_string(shape: Any, value: str, path: str) -> Iterator[str]:
    pattern = shape.metadata.get("pattern")
    yield from _check_maximum(shape, len(value), path, "characters")
    if shape.enum and value not in shape.enum:
        yield f"{path}: {value!r} is not one of the service's values"
    if pattern and not re.fullmatch(_to_python(pattern), value):
        yield f"{path}: {value!r} does not match {pattern}"


def _to_python(pattern: str) -> str:
    """Return a Python pattern for one of AWS's, which are written for Java."""
    if r"\p{L}" in pattern:
        return r"[\w\s.:/=+\-@]*"  # letters, spaces and digits of any script, and these signs
    return pattern.replace(r"\p{Alnum}", "A-Za-z0-9")
