"""Templates of a suite: Jinja over the columns of an item, in a sandbox."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BeforeValidator

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
ROW = "row"
"""Variable that holds all columns, for those whose name is not an identifier."""
_EXPRESSION = re.compile(r"\s*\{\{((?:(?!\{\{|\}\}).)*)\}\}\s*", re.DOTALL)


class TemplateError(ValueError):
    """A template cannot be rendered with the columns of an item."""


def _checked(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("write a template as text")
    try:
        _ENVIRONMENT.parse(value)
    except TemplateSyntaxError as error:
        raise ValueError(f"not a Jinja template: {error.message}") from None
    return value


Template = Annotated[str, BeforeValidator(_checked)]
"""Jinja template."""


def columns_of(template: str) -> set[str]:
    """Return the columns that a template names."""
    return meta.find_undeclared_variables(_ENVIRONMENT.parse(template))


def render(template: str, columns: Mapping[str, Any]) -> str:
    """Return a template rendered as text.

    Args:
        template: Name of a column, or a template.
        columns: Columns of an item.

    Raises:
        TemplateError: A column is missing, or an expression fails.
    """
    if template in columns:
        return str(columns[template])
    try:
        return str(_compiled(template).render({ROW: columns, **columns}))
    except UndefinedError as error:
        have = ", ".join(sorted(columns)) or "none"
        raise TemplateError(f"{error.message}. The columns are {have}") from None
    except Exception as error:
        raise TemplateError(f"{template!r} fails: {error}") from None


def evaluate(template: str, columns: Mapping[str, Any]) -> Any:
    """Return the value of a column, of a single expression, or else the rendered text.

    Args:
        template: Name of a column, `{{ expression }}`, or a template.
        columns: Columns of an item.

    Raises:
        TemplateError: A column is missing, or an expression fails.
    """
    if template in columns:
        return columns[template]
    match = _EXPRESSION.fullmatch(template)
    if match is None:
        return render(template, columns)
    try:
        value = _compiled_expression(match[1])({ROW: columns, **columns})
    except Exception as error:
        raise TemplateError(f"{template!r} fails: {error}") from None
    if isinstance(value, StrictUndefined):
        have = ", ".join(sorted(columns)) or "none"
        raise TemplateError(f"{template!r} is undefined. The columns are {have}")
    return value


@cache
def _compiled(template: str) -> Any:
    return _ENVIRONMENT.from_string(template)


@cache
def _compiled_expression(expression: str) -> Any:
    return _ENVIRONMENT.compile_expression(expression, undefined_to_none=False)
