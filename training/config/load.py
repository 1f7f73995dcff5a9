"""Loading of job files: YAML, overrides, and one error with every problem."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from training.config.checks import check_job
from training.config.device_kind import device_kind, with_device_defaults
from training.config.input_paths import resolve_paths
from training.config.job import Job, Pipeline
from training.config.neuron_checks import check_neuron
from training.config.stage_references import check_no_references, check_references
from training.config.vocabulary import JOB_VOCABULARY
from training.errors import JobError, Problem
from validation.error_messages import explain
from validation.strict_yaml import load_yaml


def load_job(path: Path, overrides: str = "") -> Job | Pipeline:
    """Return the job in `path`, checked, with `overrides` applied and its paths resolved.

    Args:
        path: A YAML file.
        overrides: `key=value` pairs separated by spaces, such as
            `train.learning_rate=1e-4 stages.instruct.data.limit=100`.

    Raises:
        JobError: The file cannot be used; the error lists every problem in it.
    """
    document = read_document(path, hint="Jobs that come with Temper are in jobs/")
    document = override(document, overrides, str(path))
    return resolve_paths(parse_job(document, str(path)), path.parent)


def prepares_data(document: Any) -> bool:
    """Return whether a parsed document is the job of a preparation, for `temper prepare`."""
    if not isinstance(document, dict):
        return False
    return "prepare" in document and not {"model", "stages"} & document.keys()


def searches_hyperparameters(document: Any) -> bool:
    """Return whether a parsed document is the job of a search, for `temper search`."""
    return isinstance(document, dict) and "search" in document


def parse_job(document: Any, source: str) -> Job | Pipeline:
    """Return the job described by a parsed YAML `document`.

    Raises:
        JobError: With every problem found.
    """
    if not isinstance(document, dict):
        kind = "nothing" if document is None else type(document).__name__
        raise JobError(source, [Problem("(file)", "a job is a mapping of sections", kind)])
    if prepares_data(document):
        fix = f"Run it: temper prepare {source}. A training job names the result in data.train"
        raise JobError(source, [Problem("prepare", "this job prepares data", fix=fix)])
    if searches_hyperparameters(document):
        fix = f"Run it: temper search {source}"
        raise JobError(source, [Problem("search", "this job searches hyperparameters", fix=fix)])
    model: type[Job] | type[Pipeline] = Pipeline if "stages" in document else Job
    try:
        job = model.model_validate(document)
    except ValidationError as error:
        raise JobError(source, explain(error, model, JOB_VOCABULARY)) from None
    job = with_device_defaults(job)
    problems = [*_check(job), *_check_device(job)]
    if problems:
        raise JobError(source, problems)
    return job


def _check(job: Job | Pipeline) -> Iterable[Problem]:
    if isinstance(job, Job):
        yield from check_job(job, prefix="", first=True)
        yield from check_no_references(job)
        return
    names: set[str] = set()
    for index, stage in enumerate(job.stages):
        prefix = f"stages.{index}."
        if stage.name in names:
            yield Problem(f"{prefix}name", "two stages share a name", stage.name)
        names.add(stage.name)
        yield from check_job(stage, prefix=prefix, first=index == 0)
    yield from check_references(job)


def _check_device(job: Job | Pipeline) -> Iterable[Problem]:
    """Yield what the device of a job cannot do; one instance type serves all stages."""
    stages = job.stages if isinstance(job, Pipeline) else (job,)
    if device_kind(stages) != "neuron":
        return
    for index, stage in enumerate(stages):
        prefix = f"stages.{index}." if isinstance(job, Pipeline) else ""
        for problem in check_neuron(stage):
            yield Problem(prefix + problem.path, problem.message, problem.value, problem.fix)


def read_document(path: Path, hint: str = "") -> Any:
    """Return the parsed YAML, or JSON, of a file; duplicate keys are refused.

    Args:
        path: The file.
        hint: Sentence for a file that does not exist.

    Raises:
        JobError: The file cannot be read or parsed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise JobError(str(path), [Problem("(file)", "there is no such file", fix=hint)]) from None
    except IsADirectoryError:
        raise JobError(str(path), [Problem("(file)", "this is a folder, not a file")]) from None
    except UnicodeDecodeError as error:
        message = f"not UTF-8 at byte {error.start}"
        raise JobError(str(path), [Problem("(file)", message, fix="Save it as UTF-8")]) from None
    except OSError as error:
        raise JobError(str(path), [Problem("(file)", str(error.strerror or error))]) from None
    try:
        return load_yaml(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "(file)"
        raise JobError(str(path), [Problem(where, error.problem or "not YAML")]) from None
    except yaml.YAMLError as error:
        raise JobError(str(path), [Problem("(file)", f"not YAML: {error}")]) from None


def override(document: Any, overrides: str, source: str) -> Any:
    """Return a document with `key=value` pairs written into it.

    Args:
        document: Parsed YAML; it is changed in place.
        overrides: Pairs separated by spaces.
        source: Name of the file, for messages.

    Raises:
        JobError: A pair cannot be parsed or written; the error lists every such pair.
    """
    problems = []
    try:
        pairs = shlex.split(overrides)
    except ValueError as error:
        raise JobError(source, [Problem("--set", str(error).lower(), repr(overrides))]) from None
    if pairs:
        document = _unshared(document)
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            problems.append(Problem("--set", "write key=value", repr(pair)))
            continue
        try:
            value = load_yaml(text)
            write_key(document, key, value)
        except (yaml.YAMLError, LookupError, TypeError) as error:
            problems.append(Problem(f"SET {key}", str(error).splitlines()[0], repr(text)))
    if problems:
        raise JobError(source, problems)
    return document


def _unshared(value: Any) -> Any:
    """Return a copy without shared objects.

    YAML anchors make two keys share one object; an override of one would change both.
    """
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value


def write_key(document: Any, key: str, value: Any) -> None:
    """Write a value into a parsed document, which is changed in place.

    Args:
        document: Sections and lists.
        key: Dotted key; an entry of a list is named by its `name` or by its index.
        value: The value.

    Raises:
        LookupError: A list has no such entry.
        TypeError: The key leads into something that is not a section.
    """
    here, keys = document, key.split(".")
    for key in keys[:-1]:
        here = _descend(here, key)
    last = keys[-1]
    if isinstance(here, list):
        here[_index(here, last)] = value
    elif isinstance(here, dict):
        here[last] = value
    else:
        raise TypeError(f"{'.'.join(keys[:-1])} is not a section")


def _descend(here: Any, key: str) -> Any:
    if isinstance(here, list):
        return here[_index(here, key)]
    if not isinstance(here, dict):
        raise TypeError(f"{key} is not inside a section")
    if not isinstance(here.get(key), dict | list):
        here[key] = {}
    return here[key]


def _index(items: list[Any], key: str) -> int:
    if key.isdigit() and int(key) < len(items):
        return int(key)
    for index, item in enumerate(items):
        if isinstance(item, dict) and item.get("name") == key:
            return index
    raise LookupError(f"no entry is called {key!r}")
