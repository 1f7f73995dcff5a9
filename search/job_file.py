"""Job file with a section `search:`: reading, and the jobs of its trials."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search.config import SearchParameter, SearchSettings, Value
from search.population import population_problems
from search.tuning_service.problems import service_problems
from training.config import Job, Pipeline
from training.config.input_paths import resolve_paths
from training.config.load import override, parse_job, read_document, write_key
from training.config.types import NEVER
from training.errors import JobError, Problem
from validation.error_messages import explain


@dataclass(frozen=True)
class SearchJob:
    """Job whose hyperparameters are searched.

    Attributes:
        path: The job file.
        settings: Its section `search:`.
        document: The job without that section, as parsed YAML.
        job: The job as it is written, checked.
    """

    path: Path
    settings: SearchSettings
    document: dict[str, Any]
    job: Job | Pipeline

    @property
    def baseline(self) -> dict[str, Value] | None:
        """Values of the space that the job as written has; None if one is outside the space."""
        values = {}
        for key, parameter in self.settings.space.items():
            value = _read_key(self.job, key)
            if not _contains(parameter, value):
                return None
            values[key] = value
        return values

    def trial_job(self, values: Mapping[str, Value], name: str = "") -> Job | Pipeline:
        """Return the checked job of a point of the space, with its paths resolved.

        Args:
            values: Key -> value.
            name: Name of the job; that of the file if empty.

        Raises:
            JobError: The values do not fit each other, or the job.
        """
        return _job_at(self.document, {**values, **({"name": name} if name else {})}, self.path)


def load_search_job(path: Path, overrides: str = "") -> SearchJob:
    """Return the job of a file with `search:`, checked over the whole space.

    Each parameter is checked at its ends, or at each choice, with the others as written.

    Args:
        path: A YAML file.
        overrides: `key=value` pairs separated by spaces.

    Raises:
        JobError: The file cannot be used; the error lists every problem in it.
    """
    document = read_document(path, hint="Jobs that come with Temper are in jobs/")
    document = override(document, overrides, str(path))
    if not isinstance(document, dict) or "search" not in document:
        fix = "Add search: {space: {train.learning_rate: {low: 1e-5, high: 1e-3, log: true}}}"
        raise JobError(str(path), [Problem("search", "the job has no such section", fix=fix)])
    section = document.pop("search")
    problems = []
    settings = None
    try:
        settings = SearchSettings.model_validate(section)
    except ValidationError as error:
        problems += [_under_search(problem) for problem in explain(error, SearchSettings)]
    job = None
    try:
        job = resolve_paths(parse_job(document, str(path)), path.parent)
    except JobError as error:
        problems += error.problems
    if settings is not None and job is not None:
        problems += _space_problems(document, settings, job, path)
        problems += _objective_problems(settings, job)
        problems += service_problems(settings, job)
        problems += population_problems(settings, job)
    if problems or settings is None or job is None:
        raise JobError(str(path), problems)
    return SearchJob(path, settings, document, job)


def _under_search(problem: Problem) -> Problem:
    path = f"search.{problem.path}" if problem.path != "(file)" else "search"
    return Problem(path, problem.message, problem.value, problem.fix)


def _space_problems(
    document: dict[str, Any], settings: SearchSettings, job: Job | Pipeline, path: Path
) -> Iterator[Problem]:
    for key, parameter in settings.space.items():
        for value in _ends(parameter):
            try:
                _job_at(document, {key: value}, path)
            except JobError as error:
                first = error.problems[0]
                message = f"{_text(value)} is refused: {first.path}: {first.message}"
                yield Problem(f"search.space.{key}", message, fix=first.fix)
                break


def _objective_problems(settings: SearchSettings, job: Job | Pipeline) -> Iterator[Problem]:
    last = job.stages[-1] if isinstance(job, Pipeline) else job
    metrics = [settings.objective.metric, *(gate.metric for gate in settings.objective.gates)]
    for metric in metrics:
        if metric.startswith("validation.") and not last.data.validation.wanted:
            fix = "Add data.validation, such as {split: 5%}"
            yield Problem("search.objective", "the job measures no held-out rows", metric, fix)
        if metric.startswith("forgetting.") and last.evaluate.forgetting is None:
            fix = "Add evaluate.forgetting with rows of the base model's knowledge"
            yield Problem("search.objective", "the job measures no forgetting", metric, fix)
    if settings.early_stopping != "none" and last.evaluate.every == NEVER:
        fix = "Add evaluate.every, such as 50 steps"
        yield Problem("search.early_stopping", "trials are not evaluated during training", fix=fix)


def _ends(parameter: SearchParameter) -> tuple[Value, ...]:
    return parameter.choices or (parameter.low, parameter.high)


def _job_at(document: dict[str, Any], values: Mapping[str, Value], path: Path) -> Job | Pipeline:
    changed = copy.deepcopy(document)
    problems = []
    for key, value in values.items():
        try:
            write_key(changed, key, value)
        except (LookupError, TypeError) as error:
            problems.append(Problem(key, str(error)))
    if problems:
        raise JobError(str(path), problems)
    return resolve_paths(parse_job(changed, str(path)), path.parent)


def _read_key(job: Job | Pipeline, key: str) -> Any:
    """Return the value of a dotted key in a checked job; None if there is none."""
    here: Any = job.model_dump(mode="json")
    for part in key.split("."):
        if isinstance(here, list):
            named = [item for item in here if item.get("name") == part]
            indexed = here[int(part)] if part.isdigit() and int(part) < len(here) else None
            here = named[0] if named else indexed
        else:
            here = here.get(part) if isinstance(here, dict) else None
    return here


def _contains(parameter: SearchParameter, value: Any) -> bool:
    if parameter.choices is not None:
        return value in parameter.choices
    assert parameter.low is not None and parameter.high is not None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if parameter.grid is not None and not parameter.log:
        return value in parameter.grid
    return parameter.low <= value <= parameter.high


def _text(value: Value) -> str:
    return shlex.quote(value) if isinstance(value, str) else str(value)
