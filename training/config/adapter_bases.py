"""Bases of the adapters that a job starts from: checked before torch is loaded, and sent along."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from training.config.adapter_files import (
    CONFIG,
    base_problem,
    is_moved,
    read_adapter_config,
    recorded_base,
)
from training.config.job import Job, Pipeline
from training.config.locations import existing_path

_Run = TypeVar("_Run", bound=Job)


def check_bases(job: Job | Pipeline) -> Iterator[str]:
    """Yield what is wrong with the base of each adapter that a job starts from.

    Raises:
        ModelError: A file of an adapter or of its base is damaged.
    """
    stages = job.stages if isinstance(job, Pipeline) else (job,)
    for index, stage in enumerate(stages):
        prefix = f"stages.{index}." if isinstance(job, Pipeline) else ""
        if problem := _problem(stage):
            yield f"{prefix}{problem}"


def _problem(job: Job) -> str | None:
    source, given = Path(job.model.source).expanduser(), job.model.base_model
    config = read_adapter_config(source)
    if config is None:
        if given is None or not source.is_dir():
            return None
        return (
            f"model.base_model: {given}: is only used if model.source is an adapter, and {source} "
            f"has no {CONFIG}. Leave it out"
        )
    base = given or recorded_base(config)
    if given is None and is_moved(base):
        return (
            f"model.source: {source} is an adapter, and its base {base or '(not recorded)'} is not "
            f"on this machine. Set model.base_model to where the base is: a folder or a Hub id"
        )
    folder = existing_path(base)
    if folder is None or not folder.is_dir() or (problem := base_problem(source, folder)) is None:
        return None
    return f"model.{'base_model' if given else 'source'}: {problem}"


def with_recorded_bases(job: Job | Pipeline) -> Job | Pipeline:
    """Return the job with `model.base_model` set for each adapter that it starts from.

    The files of such a base are then inputs of the job, as those of the adapter are.
    """
    if isinstance(job, Pipeline):
        stages = tuple(_with_recorded_base(stage) for stage in job.stages)
        return job.model_copy(update={"stages": stages})
    return _with_recorded_base(job)


def _with_recorded_base(job: _Run) -> _Run:
    config = read_adapter_config(Path(job.model.source).expanduser())
    if job.model.base_model is not None or config is None or not recorded_base(config):
        return job
    base = recorded_base(config)
    # A revision is that of a Hub id, and an adapter records it with the base.
    revision = config.get("revision") if existing_path(base) is None else None
    update = {"base_model": base, "revision": revision}
    return job.model_copy(update={"model": job.model.model_copy(update=update)})
