"""Validation of a request against the service's own description: types, limits, patterns, enums.

botocore checks types and minimum lengths before it sends a request, and leaves maxima, patterns and
enums to the service. Here the description that comes with botocore is applied in full.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any

import botocore.session
from botocore.model import OperationModel, ServiceModel
from botocore.validate import ParamValidator

_JAVA_CLASSES = {
    "Alnum": "A-Za-z0-9",
    "ASCII": r"\x00-\x7f",
    "Print": " -~",
    "L": r"\w",
    "M": r"\w",
    "N": r"\w",
    "Z": r"\s",
}
_JAVA_ESCAPES = {r"\z": r"\Z", r"\uD800\uDC00-\uDBFF\uDFFF": r"\U00010000-\U0010FFFF"}


@cache
def service_model(name: str) -> ServiceModel:
    """Return botocore's description of a service."""
    return botocore.session.get_session().get_service_model(name)


@cache
def operation(service: str, name: str) -> OperationModel:
    """Return botocore's description of an operation."""
    return service_model(service).operation_model(name)


def validation_errors(service: str, name: str, request: dict[str, Any]) -> list[str]:
    """Return everything that is wrong with a request, each with the path of the value.

    Args:
        service: Name of the service, as boto3 has it.
        name: Name of the operation, such as `CreateTrainingJob`.
        request: Parameters of the request.
    """
    shape = operation(service, name).input_shape
    if shape is None:
        return [f"unknown parameter {key}" for key in request]
    report = ParamValidator().validate(request, shape)
    errors = [report.generate_report()] if report.has_errors() else []
    return [*errors, *_walk(shape, request, "")]


def response_errors(
    service: str, name: str, response: Mapping[str, Any], late: Collection[str] = ()
) -> list[str]:
    """Return everything that is wrong with a response of the emulator, but for its streams.

    Args:
        service: Name of the service, as boto3 has it.
        name: Name of the operation.
        response: Members of the response.
        late: Required members that may be missing.
    """
    shape = operation(service, name).output_shape
    if shape is None:
        return [f"unknown member {key}" for key in response]
    stream = operation(service, name).get_event_stream_output()
    streamed = {n for n, member in shape.members.items() if member is stream}
    required = [n for n in shape.required_members if n not in late]
    errors = [f"missing {n}" for n in required if response.get(n) is None]
    errors += [f"unknown member {key}" for key in response if key not in shape.members]
    checked = {key: value for key, value in response.items() if key not in streamed}
    for key in checked.keys() & shape.members.keys():
        member, value = shape.members[key], checked[key]
        report = ParamValidator().validate(value, member)
        errors += [f"{key}: {report.generate_report()}"] if report.has_errors() else []
        errors += _walk(member, value, f".{key}")
    return errors


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
    if pattern and not re.fullmatch(to_python_pattern(pattern), value):
        yield f"{path}: {value!r} does not match {pattern}"


def to_python_pattern(pattern: str) -> str:
    r"""Return a Python pattern for one of AWS's, which are written for Java.

    Letters, digits and marks of all scripts become `\w`, which includes the underscore; where
    punctuation or symbols of all scripts are allowed, everything is.
    """
    if re.search(r"\\p\{[PS]\}", pattern):
        return "(?s:.*)"
    for java, python in _JAVA_ESCAPES.items():
        pattern = pattern.replace(java, python)
    converted, end = "", 0
    for found in re.finditer(r"\\p\{(\w+)\}", pattern):
        before = pattern[: found.start()]
        in_class = before.rfind("[") > before.rfind("]")
        members = _JAVA_CLASSES[found[1]]
        converted += pattern[end : found.start()] + (members if in_class else f"[{members}]")
        end = found.end()
    return re.sub(r"\$\{[\d,]+\}", "", converted + pattern[end:])
