"""Whether a request is one that AWS would read: types, limits, patterns and lists of values.

botocore checks types and lengths before it sends anything; patterns and lists of values it leaves
to the service. Here the service's own description, which comes with botocore, is applied in full.
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
    """Return the description of one operation."""
    return botocore.session.get_session().get_service_model(service).operation_model(name)


def faults(service: str, name: str, request: dict[str, Any]) -> list[str]:
    """Return everything that is wrong with a request, each with its place."""
    shape = operation(service, name).input_shape
    report = ParamValidator().validate(request, shape)
    found = [report.generate_report()] if report.has_errors() else []
    return [*found, *_walk(shape, request, "")]


def _walk(shape: Any, value: Any, place: str) -> Iterator[str]:
    """Yield what botocore leaves to the service; what has a wrong type it has found already."""
    kind = shape.type_name
    if kind == "structure" and isinstance(value, dict):
        for key in value.keys() & shape.members.keys():
            yield from _walk(shape.members[key], value[key], f"{place}.{key}")
    elif kind == "list" and isinstance(value, list):
        yield from _longest(shape, len(value), place, "members")
        for index, inner in enumerate(value):
            yield from _walk(shape.member, inner, f"{place}[{index}]")
    elif kind == "map" and isinstance(value, dict):
        for key, inner in value.items():
            yield from _walk(shape.key, key, f"{place} key")
            yield from _walk(shape.value, inner, f"{place}.{key}")
    elif kind == "string" and isinstance(value, str):
        yield from _string(shape, value, place)
    elif isinstance(value, int):
        yield from _longest(shape, value, place, "")


def _longest(shape: Any, value: int, place: str, what: str) -> Iterator[str]:
    longest = shape.metadata.get("max")
    if longest is not None and value > longest:
        yield f"{place}: {value} {what} where {longest} is the most".replace("  ", " ")


def _string(shape: Any, value: str, place: str) -> Iterator[str]:
    pattern = shape.metadata.get("pattern")
    yield from _longest(shape, len(value), place, "characters")
    if shape.enum and value not in shape.enum:
        yield f"{place}: {value!r} is not one of the service's values"
    if pattern and not re.fullmatch(_python(pattern), value):
        yield f"{place}: {value!r} does not match {pattern}"


def _python(pattern: str) -> str:
    """Return one of AWS's (Java's) patterns as Python reads it."""
    if r"\p{L}" in pattern:
        return r"[\w\s.:/=+\-@]*"  # letters, spaces and digits of any script, and these signs
    return pattern.replace(r"\p{Alnum}", "A-Za-z0-9")
