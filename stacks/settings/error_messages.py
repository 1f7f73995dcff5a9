"""Turns pydantic's findings into lines that a person can act on: place, value, fix."""

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def problems_of(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    """Yields one line per finding, with a suggestion where a key was mistyped."""
    for finding in error.errors():
        place = ".".join(str(part) for part in finding["loc"] if not _is_union_branch(part))
        if finding["type"] == "extra_forbidden":
            yield f"{place}: unknown key{_suggestion(finding['loc'], model)}"
        elif finding["type"] == "missing":
            yield f"{place}: required, and not given"
        elif finding["type"] == "value_error":
            yield f"{place}: {finding['ctx']['error']}"
        else:
            yield f"{place}: {finding['msg']} (got {finding['input']!r})"


def _is_union_branch(part: int | str) -> bool:
    return isinstance(part, str) and (
        "[" in part or part in {"constrained-str", "literal", "Throughput", "Budget"}
    )


def _suggestion(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    keys = _keys_at(location[:-1], model)
    close = difflib.get_close_matches(str(location[-1]), keys, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known keys here: {', '.join(keys)}" if keys else ""


def _keys_at(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None:
            continue
        nested = _model_within(field.annotation)
        if nested is None:
            return []
        model = nested
    return list(model.model_fields)


def _model_within(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_within, get_args(annotation))), None)
