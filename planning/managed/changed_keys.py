"""Keys of a job that differ from their defaults."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticUndefined


class ChangedKey(NamedTuple):
    """Key of a job whose value is not the default.

    Attributes:
        path: Key with dots.
        value: Its value.
    """

    path: str
    value: Any


def changed_keys(section: BaseModel, prefix: str = "") -> Iterator[ChangedKey]:
    """Yield the keys of a job, or of a section of it, that differ from their defaults.

    A value that was written and equals the default changes nothing, and is not among them.

    Args:
        section: The job or section.
        prefix: Key of the section with a dot at its end; empty for the job.
    """
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from changed_keys(value, f"{prefix}{name}.")
        elif value != _default(type(section), name):
            yield ChangedKey(f"{prefix}{name}", value)


@cache
def _default(section: type[BaseModel], name: str) -> Any:
    """Return the default of a key, parsed as its value is: `3%` is a number."""
    info = section.model_fields[name]
    default = info.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return default
    annotation: Any = info.annotation
    for part in info.metadata:
        annotation = Annotated[annotation, part]
    return TypeAdapter(annotation).validate_python(default)
