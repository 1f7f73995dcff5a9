"""References `stage:NAME` in a job of several stages, to what an earlier stage wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel

from training.config.job import Job, Pipeline
from training.config.locations import Location, locations, put
from training.config.model import STAGE
from training.errors import Problem

ROWS = "rows.jsonl"
"""File name, in a stage's folder, of the rows that the stage wrote."""


def check_references(job: Pipeline) -> Iterator[Problem]:
    """Yield every reference to a stage that does not exist or has not what the key needs."""
    trains: dict[str, bool] = {}
    for index, stage in enumerate(job.stages):
        for location, name in _references(stage):
            path, rows = f"stages.{index}.{location.path}", location.field.kind == "data"
            if name not in trains:
                earlier = ", ".join(trains) or "none"
                message = f"no earlier stage is called so (there are: {earlier})"
                yield Problem(path, message, location.value)
            elif rows and trains[name]:
                fix = "Name a stage whose method writes rows, such as distill_text"
                yield Problem(path, "is a stage that writes no rows", location.value, fix)
            elif not rows and not trains[name]:
                yield Problem(path, "is a stage that trains no model", location.value)
        trains[stage.name] = stage.method.trains


def check_no_references(job: Job) -> Iterator[Problem]:
    """Yield every reference to a stage in a job that has no stages."""
    for location, _ in _references(job):
        message = "names a stage, and this job has none"
        yield Problem(location.path, message, location.value, "Use stages:")


def resolve_references(
    job: Job | Pipeline, document: dict[str, Any], folder_of: Callable[[str], str]
) -> None:
    """Replace the references in a job's document by what the stages wrote.

    Args:
        job: The job or stage.
        document: The job as it was dumped; changed in place.
        folder_of: Returns the model or rows of the stage with a name.
    """
    for location, name in _references(job):
        put(document, location.key, folder_of(name))


def _references(job: BaseModel) -> Iterator[tuple[Location, str]]:
    """Yield every location that is a reference, with the name of the stage."""
    for location in locations(job):
        if location.field.of_stage and location.value.startswith(STAGE):
            yield location, location.value.removeprefix(STAGE)
