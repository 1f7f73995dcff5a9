"""Job file of a preparation for another machine: other paths, another output, the same result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from preparation.config.job import PreparationJob
from preparation.steps.step import StepSection
from training.errors import JobError, Problem


def local_files(job: PreparationJob) -> list[tuple[str, Path]]:
    """Return the key and the path of each file and folder that a job reads."""
    prepare = job.prepare
    named = [
        (f"prepare.sources.{index}.source", Path(source.source))
        for index, source in enumerate(prepare.sources)
        if not source.source.startswith("builtin:")
    ]
    for index, step in enumerate(prepare.steps):
        if isinstance(step, StepSection):
            named += [(f"prepare.steps.{index}", Path(path)) for path in step.files()]
    return named


def relocated(job: PreparationJob, paths: Mapping[Path, str], output: str) -> str:
    """Return the YAML of a job in which paths and output are those of another machine.

    Args:
        job: The job.
        paths: Path here -> path there, of each of `local_files`.
        output: Folder in which the result is written.

    Raises:
        JobError: The job names a file otherwise than by its path, such as by the id of a model.
    """
    # Only what the job sets: some keys are refused where they have no effect.
    document = job.model_dump(mode="json", exclude_unset=True)
    there = {str(path): new for path, new in paths.items()}
    replaced: set[str] = set()
    document = _replaced(document, there, replaced)
    if missing := sorted(there.keys() - replaced):
        keys = {str(path): key for key, path in local_files(job)}
        fix = "Name the file by its path, which is then copied"
        message = "another machine does not have this file"
        raise JobError(job.name, [Problem(keys[path], message, path, fix) for path in missing])
    document["prepare"]["output"] = output
    document["prepare"].pop("workers", None)
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text


def _replaced(value: Any, paths: Mapping[str, str], replaced: set[str]) -> Any:
    """Return a document with paths replaced, and add those to a set.

    Args:
        value: Part of the document.
        paths: Path here -> path there.
        replaced: Receives the paths that were found.
    """
    if isinstance(value, dict):
        return {key: _replaced(inner, paths, replaced) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, paths, replaced) for inner in value]
    if isinstance(value, str) and value in paths:
        replaced.add(value)
        return paths[value]
    return value
