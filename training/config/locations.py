"""Marks of the job's keys that name models, data or files, and the list of them in a job.

A key that is to be found by `locations` is declared with one of the types below; no other text of
a job is ever taken for a path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_MAX_PATH_LENGTH = 1024


@dataclass(frozen=True)
class LocationField:
    """Mark of a key whose value names something outside the job.

    Attributes:
        kind: `model` (weights or a tokenizer), `data` (rows), `adapter` (the folder of a trained
            adapter) or `file`.
    """

    kind: Literal["model", "data", "adapter", "file"]

    @property
    def on_hub(self) -> bool:
        """True if the value may be a Hub id."""
        return self.kind in ("model", "data")

    @property
    def of_stage(self) -> bool:
        """True if the value may be `stage:NAME`."""
        return self.kind != "file"


ModelLocation = Annotated[str, LocationField("model")]
DataLocation = Annotated[str, LocationField("data")]
AdapterLocation = Annotated[str, LocationField("adapter")]
FileLocation = Annotated[str, LocationField("file")]


class Location(NamedTuple):
    """A value of a job that names a model, data or a file.

    Attributes:
        key: Path of the key, such as `("data", "train", "0", "source")`; the same in the job's
            dumped document.
        value: Text that the job gives there.
        field: Mark of the key.
    """

    key: tuple[str, ...]
    value: str
    field: LocationField

    @property
    def path(self) -> str:
        """Key with dots, as messages name it."""
        return ".".join(self.key)


def locations(section: BaseModel, key: tuple[str, ...] = ()) -> Iterator[Location]:
    """Yield every location that a job, or a section of one, names.

    Args:
        section: The job or section.
        key: Path of the section in the job.
    """
    for name, info in type(section).model_fields.items():
        yield from _walk(getattr(section, name), (*key, name), _mark(info))


def _walk(value: Any, key: tuple[str, ...], mark: LocationField | None) -> Iterator[Location]:
    if isinstance(value, BaseModel):
        yield from locations(value, key)
    elif isinstance(value, str):
        if mark is not None:
            yield Location(key, value, mark)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _walk(item, (*key, str(name)), mark)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _walk(item, (*key, str(index)), mark)


def _mark(info: FieldInfo) -> LocationField | None:
    """Return the mark in a field's type, at any depth: `dict[str, ModelLocation]` has one too."""
    # Pydantic moves the metadata of an outermost `Annotated` from the annotation to the field.
    return next(_marks((*info.metadata, info.annotation)), None)


def _marks(parts: tuple[Any, ...]) -> Iterator[LocationField]:
    for part in parts:
        if isinstance(part, LocationField):
            yield part
        elif not isinstance(part, type) or get_args(part):
            yield from _marks((*getattr(part, "__metadata__", ()), *get_args(part)))


def existing_path(value: str) -> Path | None:
    """Return the path that a location names on this machine; None if nothing exists there."""
    if not value or len(value) > _MAX_PATH_LENGTH or "\n" in value:
        return None
    path = Path(value).expanduser()
    return path if path.exists() else None


def put(document: Any, key: tuple[str, ...], value: str) -> None:
    """Replace the value at a key of a job's dumped document.

    Args:
        document: Nested dictionaries and lists, changed in place.
        key: Path of the key.
        value: New value.
    """
    *parents, last = key
    for part in parents:
        document = document[int(part)] if isinstance(document, list) else document[part]
    if isinstance(document, list):
        document[int(last)] = value
    else:
        document[last] = value
