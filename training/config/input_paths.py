"""Paths of a job's inputs: found next to the job file too, and checked before anything is loaded.

A relative path is taken from the working directory. If nothing exists there, it is taken from the
folder of the job file, so that a job and its data can be moved together.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from training.config.job import Job, Pipeline
from training.config.locations import Location, existing_path, locations
from training.errors import DataError, ModelError

_NAMED = re.compile(r"^(builtin:|channel:|stage:|[a-z0-9]+://)")
"""Beginnings of values that are no paths."""
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
_FILE_SUFFIX = re.compile(r"\.(jsonl?|ndjson|csv|tsv|parquet|arrow|txt|md|gz|zst|zip|xlsx)$", re.I)


def resolve_paths(job: Job | Pipeline, folder: Path) -> Job | Pipeline:
    """Return the job with the paths that exist next to its file, and not in the working directory.

    Args:
        job: The job as it was read.
        folder: Folder of the job file.
    """
    for location in list(locations(job)):
        if (path := _next_to_job(location.value, folder)) is not None:
            job = _replaced(job, location.key, path)
    return job


def require_inputs(job: Job | Pipeline, folder: Path) -> None:
    """Raise if a path that the job names does not exist, with every such path.

    A name that may be a Hub id is not looked up: that needs the network.

    Args:
        job: The job, whose paths are resolved.
        folder: Folder of the job file, named in the message.

    Raises:
        DataError: A file or folder of rows is missing.
        ModelError: Only folders of models or adapters are missing.
    """
    missing = [location for location in locations(job) if _is_missing_path(location)]
    if not missing:
        return
    lines = [f"{loc.path}: {loc.value}: {_explain(loc.value, folder)}" for loc in missing]
    of_data = any(location.field.kind == "data" for location in missing)
    raise (DataError if of_data else ModelError)("\n".join(lines))


def _next_to_job(value: str, folder: Path) -> str | None:
    """Return the path of a value next to the job file, if it exists nowhere else."""
    if not value or _NAMED.match(value) or existing_path(value) is not None:
        return None
    path = Path(value).expanduser()
    if path.is_absolute() or existing_path(str(folder / path)) is None:
        return None
    # The same text whatever the spelling of the job's path, so that a rerun resumes the run.
    absolute, here = Path(os.path.normpath(folder.absolute() / path)), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def _is_missing_path(location: Location) -> bool:
    value = location.value
    if location.field.kind == "file" or not value or _NAMED.match(value):
        return False
    if existing_path(value) is not None:
        return False
    is_file = location.field.kind == "data" and bool(_FILE_SUFFIX.search(value))
    return is_file or not _HUB_ID.match(value)


def _explain(value: str, folder: Path) -> str:
    """Return where a path was looked up, and the closest name that exists there."""
    path = Path(value).expanduser()
    tried = [path] if path.is_absolute() else [Path.cwd() / path, folder.absolute() / path]
    places = " nor ".join(dict.fromkeys(os.path.normpath(place) for place in tried))
    for place in tried:
        parent = place.parent
        names = [entry.name for entry in parent.iterdir()] if parent.is_dir() else []
        if close := difflib.get_close_matches(path.name, names, n=1):
            return f"there is no such file or folder ({places}). Did you mean {parent / close[0]}?"
    return f"there is no such file or folder ({places}). Correct the path, or run from its folder"


def _replaced(value: Any, key: tuple[str, ...], text: str) -> Any:
    """Return a copy of a section or a list of a job with another text at a key."""
    if not key:
        return text
    first, *rest = key
    remaining = tuple(rest)
    if isinstance(value, BaseModel):
        item = _replaced(getattr(value, first), remaining, text)
        return value.model_copy(update={first: item})
    if isinstance(value, Mapping):
        return {**value, first: _replaced(value[first], remaining, text)}
    items = list(value)
    items[int(first)] = _replaced(items[int(first)], remaining, text)
    return type(value)(items)
