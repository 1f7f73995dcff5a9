"""`stage:NAME` in a job of several stages: what an earlier stage left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from training.config.job import Job, Pipeline
from training.config.model import STAGE
from training.errors import Problem

ROWS = "rows.jsonl"
"""What a stage that writes rows calls them, in its folder."""


def check_references(job: Pipeline) -> Iterator[Problem]:
    """Yield every name of a stage that is not there, or that has not what is asked of it."""
    before: dict[str, bool] = {}
    for index, stage in enumerate(job.stages):
        document = stage.model_dump(mode="json", exclude_none=True)
        for path, named in _named(document, ()):
            where = f"stages.{index}.{'.'.join(path)}"
            value, rows = f"{STAGE}{named}", path[0] == "data"
            if named not in before:
                known = ", ".join(before) or "none"
                yield Problem(where, f"no earlier stage is called so (there are: {known})", value)
            elif rows and before[named]:
                fix = "Name a stage whose method writes rows, such as distill_text"
                yield Problem(where, "is a stage that writes no rows", value, fix)
            elif not rows and not before[named]:
                yield Problem(where, "is a stage that trains no model", value)
        before[stage.name] = stage.method.trains


def check_alone(job: Job) -> Iterator[Problem]:
    """Yield every name of a stage in a job that has no stages."""
    for path, named in _named(job.model_dump(mode="json", exclude_none=True), ()):
        yield Problem(
            ".".join(path), "names a stage, and this job has none", f"{STAGE}{named}", "Use stages:"
        )


def resolve_references(
    value: Any, place_of: Callable[[str], str], *, inside: tuple[str, ...] = ()
) -> Any:
    """Return a document in which names of stages are replaced.

    Args:
        value: The document, or a part of it.
        place_of: Gives the place for the name of a stage.
        inside: Where the part stands.
    """
    if isinstance(value, dict):
        return {k: resolve_references(v, place_of, inside=(*inside, k)) for k, v in value.items()}
    if isinstance(value, list):
        return [resolve_references(v, place_of, inside=inside) for v in value]
    named = _stage(value, inside)
    return value if named is None else place_of(named)


def _named(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _named(item, (*path, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _named(item, (*path, str(index)))
    elif (named := _stage(value, path)) is not None:
        yield path, named


_PLACES = ("source", "teacher")
"""Keys that name models and data; so do the members of a composition, under any name."""


def _stage(value: Any, path: tuple[str, ...]) -> str | None:
    """Return the stage that a value names, where it stands at a key for such."""
    if not (isinstance(value, str) and value.startswith(STAGE) and path):
        return None
    member = path[-2:-1] == ("adapters",)
    return value.removeprefix(STAGE) if member or path[-1] in _PLACES else None
