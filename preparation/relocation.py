"""Job file of a preparation for another machine: other paths, another output, the same result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from preparation.config.job import PreparationJob
from preparation.steps.step import StepSection

BUILT_IN = "builtin:"


def local_files(job: PreparationJob) -> dict[str, tuple[str, Path]]:
    """Return key and path of each file and folder that a job reads, by its value in the job."""
    found = {
        source.source: (f"prepare.sources.{index}.source", Path(source.source))
        for index, source in enumerate(job.prepare.sources)
        if not source.source.startswith(BUILT_IN)
    }
    for index, step in enumerate(job.prepare.steps):
        if isinstance(step, StepSection):
            for value, path in step.files().items():
                found.setdefault(value, (f"prepare.steps.{index}", path))
    return found


def with_files(job: PreparationJob, name: Callable[[str], str]) -> PreparationJob:
    """Return a job whose files are named otherwise.

    Args:
        job: The job.
        name: Returns the new name of a value in `local_files`.
    """
    prepare = job.prepare
    sources = tuple(
        source
        if source.source.startswith(BUILT_IN)
        else source.model_copy(update={"source": name(source.source)})
        for source in prepare.sources
    )
    steps = tuple(
        step.with_files({value: name(value) for value in step.files()})
        if isinstance(step, StepSection)
        else step
        for step in prepare.steps
    )
    return job.model_copy(
        update={"prepare": prepare.model_copy(update={"sources": sources, "steps": steps})}
    )


def without_folders(job: PreparationJob) -> PreparationJob:
    """Return a job whose files have the names that they have in any folder of any machine."""
    files = local_files(job)
    return with_files(job, lambda value: files[value][1].name)


def job_yaml(job: PreparationJob) -> str:
    """Return the text of a job file with the keys that a job sets, and no default."""
    return _as_yaml(_set_keys(job))


def relocated(job: PreparationJob, names: Mapping[str, str], output: str) -> str:
    """Return the text of a job whose files and output are those of another machine.

    Args:
        job: The job.
        names: Path there of each value in `local_files`.
        output: Folder in which the result is written.
    """
    document = _set_keys(with_files(job, names.__getitem__))
    document["prepare"]["output"] = output
    for key in ("workers", "copies"):
        document["prepare"].pop(key, None)
    return _as_yaml(document)


def _set_keys(job: PreparationJob) -> dict[str, Any]:
    # Some keys are refused where they have no effect, even with their default.
    return job.model_dump(mode="json", exclude_unset=True)


def _as_yaml(document: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text
