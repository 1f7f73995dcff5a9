"""Loading of the job file of a preparation, with one error for all of its problems."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from preparation.config.duplicates import DuplicatesStep
from preparation.config.job import PreparationJob
from preparation.config.source import PreparedSource, is_address
from preparation.steps.step import StepSection
from training.config.data import Source
from training.config.load import override, read_document
from training.config.locations import existing_path
from training.config.vocabulary import JOB_VOCABULARY
from training.errors import JobError, Problem
from validation.error_messages import explain

AnySource = TypeVar("AnySource", bound=Source)


def load_preparation(path: Path, overrides: str = "") -> PreparationJob:
    """Return the preparation that a job file describes, checked.

    Args:
        path: A YAML file.
        overrides: `key=value` pairs separated by spaces, such as `prepare.workers=4`.

    Raises:
        JobError: The file cannot be used; the error lists every problem in it.
    """
    document = read_document(path, hint="An example is jobs/prepare.yaml")
    return parse_preparation(override(document, overrides, str(path)), str(path), path.parent)


def parse_preparation(document: Any, source: str, folder: Path = Path()) -> PreparationJob:
    """Return the preparation described by a parsed YAML document.

    Args:
        document: The document.
        source: Name of the file, for messages.
        folder: Folder from which sources are taken that do not exist in the working directory.

    Raises:
        JobError: With every problem found.
    """
    if not isinstance(document, dict):
        kind = "nothing" if document is None else type(document).__name__
        raise JobError(source, [Problem("(file)", "a job is a mapping of sections", kind)])
    try:
        job = PreparationJob.model_validate(document)
    except ValidationError as error:
        raise JobError(source, explain(error, PreparationJob, JOB_VOCABULARY)) from None
    job = _with_found_files(job, folder)
    problems = list(_problems(job))
    if problems:
        raise JobError(source, problems)
    return job


def _with_found_files(job: PreparationJob, folder: Path) -> PreparationJob:
    """Return the job with the files that exist next to its file, and not here, found there."""

    def found(source: AnySource) -> AnySource:
        beside = folder / source.source
        if existing_path(source.source) is None and beside.exists():
            return source.model_copy(update={"source": str(beside)})
        return source

    sources = tuple(found(source) for source in job.prepare.sources)
    steps = tuple(
        step.found_from(folder) if isinstance(step, StepSection) else step
        for step in job.prepare.steps
    )
    prepare = job.prepare.model_copy(update={"sources": sources, "steps": steps})
    synthesize = job.synthesize
    if synthesize is not None:
        named = {name: found(source) for name, source in synthesize.sources()}
        synthesize = synthesize.model_copy(update=named)
    return job.model_copy(update={"prepare": prepare, "synthesize": synthesize})


def _problems(job: PreparationJob) -> Iterable[Problem]:
    yield from _source_problems(job.prepare.sources)
    yield from _output_problems(job)
    if job.synthesize is not None:
        yield from job.synthesize.problems("synthesize")
    elif not job.prepare.sources:
        fix = "Name a file or a folder, or add a section synthesize"
        yield Problem("prepare.sources", "there is nothing to prepare", fix=fix)
    if job.prepare.report is not None:
        yield from job.prepare.report.problems()
    names = [step.step for step in job.prepare.steps]
    for index, step in enumerate(job.prepare.steps):
        key = f"prepare.steps.{index}"
        if step.step in names[:index]:
            yield Problem(key, f"the step {step.step} is in the list twice", step.step)
        if isinstance(step, StepSection):
            yield from step.problems(key)


def _source_problems(sources: Sequence[PreparedSource]) -> Iterable[Problem]:
    for index, source in enumerate(sources):
        key = f"prepare.sources.{index}"
        if source.source.startswith("s3:"):
            yield from _address_problems(f"{key}.source", source.source)
        elif existing_path(source.source) is None and not source.source.startswith("builtin:"):
            yield Problem(
                f"{key}.source",
                "there is no such file or folder",
                source.source,
                "Paths are taken from the working directory, then from the folder of the job",
            )
        if source.weight != 1:
            yield Problem(
                f"{key}.weight",
                "a preparation uses each row once",
                str(source.weight),
                "Set weights in the training job",
            )


def _address_problems(key: str, address: str) -> Iterable[Problem]:
    if not is_address(address):
        fix = "Write s3://BUCKET/KEY, or s3://BUCKET/FOLDER/ for all that is below it"
        yield Problem(key, "this is no address in S3", address, fix)


def _output_problems(job: PreparationJob) -> Iterable[Problem]:
    """Yield each source that holds the result, or is part of it: it would be read as data."""
    if "://" in job.prepare.output:
        return
    result = Path(job.prepare.output, job.name).resolve()
    for index, source in enumerate(job.prepare.sources):
        path = existing_path(source.source)
        if path is None:
            continue
        path = path.resolve()
        written_before = path.is_relative_to(result / "synthesized")
        if result.is_relative_to(path) or (path.is_relative_to(result) and not written_before):
            yield Problem(
                f"prepare.sources.{index}.source",
                f"the result is written to {result}, so that the next run would read it as data",
                source.source,
                "Set prepare.output to a folder outside the source, or give the job another name",
            )


def step_index(job: PreparationJob) -> int:
    """Return the position of the step `duplicates`, or the number of steps without it."""
    steps = job.prepare.steps
    return next((i for i, s in enumerate(steps) if isinstance(s, DuplicatesStep)), len(steps))
