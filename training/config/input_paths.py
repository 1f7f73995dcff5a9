"""Inputs of a job: found next to the job file too, and checked before anything is loaded.

A relative path is taken from the working directory. If nothing exists there, it is taken from the
folder of the job file, so that a job and its data can be moved together.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from catalog.managed_training import JUMPSTART, is_managed_name
from training.config.adapter_bases import check_bases
from training.config.hub_lookup import HubAnswer, ask_hub
from training.config.job import Job, Pipeline
from training.config.locations import Location, existing_path, locations
from training.config.model import PREVIOUS, SCRATCH, in_registry
from training.config.model_references import model_folder_of
from training.errors import DataError, ModelError

_OURS = frozenset((PREVIOUS, SCRATCH))
_NAMED = re.compile(
    r"^(builtin:|channel:|run:|stage:|registry:|bedrock:|jumpstart:|arn:|[a-z0-9]+://)"
)
"""Beginnings of values that are no paths."""
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
_FILE_SUFFIX = re.compile(r"\.(jsonl?|ndjson|csv|tsv|parquet|arrow|txt|md|gz|zst|zip|xlsx)$", re.I)


def resolve_paths(job: Job | Pipeline, folder: Path) -> Job | Pipeline:
    """Return the job with its paths resolved.

    Paths that exist next to its file, and not in the working directory, are found there; models
    of runs and in archives become folders.

    Args:
        job: The job as it was read.
        folder: Folder of the job file.

    Raises:
        ModelError: Runs have no model here, or archives cannot be unpacked.
    """
    problems = []
    for location in list(locations(job)):
        path = _next_to_job(location.value, folder)
        here = location if path is None else location._replace(value=path)
        try:
            path = model_folder_of(here) or path
        except ModelError as error:
            problems.append(str(error))
        if path is not None:
            job = _replaced(job, location.key, path)
    if problems:
        raise ModelError("\n".join(problems))
    return job


def require_inputs(job: Job | Pipeline, folder: Path, *, here: bool = False) -> list[str]:
    """Raise if an input that the job names does not exist, with every such input.

    Paths are looked up on this machine, and other names on the Hub, all at the same time. The base
    of an adapter is looked up too, and must fit it.

    Args:
        job: The job, whose paths are resolved.
        folder: Folder of the job file, named in the message.
        here: The job will run on this machine: a Hub that is out of reach is an error.

    Returns:
        One line for each name that could not be looked up on the Hub.

    Raises:
        DataError: A file, a folder or a data set of rows is missing.
        ModelError: Only models or adapters are missing, or an adapter does not fit its base.
    """
    named = list(locations(job))
    missing = [(loc, _explain(loc.value, folder)) for loc in named if _is_missing_path(loc)]
    on_hub = [location for location in named if _is_hub_id(location)]
    unknown = []
    for location, answer in zip(on_hub, _ask_hub(job, on_hub), strict=True):
        if answer.problem or (here and answer.unreachable):
            missing.append((location, answer.problem or _out_of_reach(answer.unknown)))
        elif answer.unknown:
            unknown.append(f"{location.path}: {location.value}: not checked: {answer.unknown}")
    for location in filter(lambda one: in_registry(one.value), named):
        if here:
            missing.append((location, _download_from_registry(location.value)))
        else:
            unknown.append(
                f"{location.path}: {location.value}: not checked: the model registry is asked "
                f"when the job is planned or submitted"
            )
    if here:
        managed = [location for location in named if is_managed_name(location.value)]
        missing += [(location, _train_elsewhere(location.value)) for location in managed]
    lines = [f"{location.path}: {location.value}: {reason}" for location, reason in missing]
    lines += check_bases(job)
    if not lines:
        return unknown
    of_data = any(location.field.kind == "data" for location, _ in missing)
    raise (DataError if of_data else ModelError)("\n".join(lines))


def require_model(name: str, argument: str) -> None:
    """Raise if a model that a command names does not exist, before anything heavy is loaded.

    Args:
        name: A folder or a Hub id.
        argument: Name of the argument, for the message.

    Raises:
        ModelError: There is no such folder, and the Hub has no such model or is out of reach.
    """
    if existing_path(name) is not None:
        return
    if not _HUB_ID.match(name):
        raise ModelError(f"{argument}: {name}: {_explain(name, Path())}")
    answer = ask_hub(name, "model")
    if answer.problem or answer.unreachable:
        raise ModelError(f"{argument}: {name}: {answer.problem or _out_of_reach(answer.unknown)}")


def _train_elsewhere(name: str) -> str:
    """Return how to train a model that a provider of managed customization names."""
    if name.startswith(JUMPSTART):
        return (
            "a run on this machine does not download from SageMaker's hub. Train it there, "
            "--target jumpstart, or name the same model on the Hugging Face Hub"
        )
    return (
        "its weights are not public, so that only Bedrock and SageMaker train it: --target "
        "bedrock-customization, or --target sagemaker-serverless"
    )


def _download_from_registry(name: str) -> str:
    """Return how to train from a version of the model registry on this machine."""
    return (
        "a run on this machine does not download from the model registry. Look up the address of "
        "the model, `aws sagemaker describe-model-package --model-package-name ARN --query "
        '"InferenceSpecification.Containers[0].[ModelDataUrl,ModelDataSource.S3DataSource.S3Uri]"`'
        ", download it, `aws s3 cp --recursive ADDRESS FOLDER`, and name the folder; "
        f"{name} stays as it is for --target sagemaker"
    )


def _out_of_reach(reason: str) -> str:
    return f"no such folder, not in the Hub's cache, and {reason}. Correct the name or the network"


def _ask_hub(job: Job | Pipeline, names: list[Location]) -> list[HubAnswer]:
    """Return the Hub's answers about several names, asked at the same time."""
    if not names:
        return []
    with ThreadPoolExecutor(max_workers=min(8, len(names))) as threads:
        return list(
            threads.map(
                lambda name: ask_hub(
                    name.value,
                    "data" if name.field.kind == "data" else "model",
                    revision_of(job, name),
                ),
                names,
            )
        )


def revision_of(job: Job | Pipeline, location: Location) -> str | None:
    """Return the revision next to a name: `revision` of a model, `teacher_revision` of a teacher.

    A tokenizer of its own, and a data set, have none.
    """
    section: Any = job
    *parents, last = location.key
    for part in parents:
        section = (
            section[int(part)]
            if isinstance(section, list | tuple)
            else (section.get(part) if isinstance(section, Mapping) else getattr(section, part))
        )
    key = {
        "source": "revision",
        "base_model": "revision",
        "teacher": "teacher_revision",
    }.get(last, "")
    revision = getattr(section, key, None) if key else None
    return revision if isinstance(revision, str) else None


def _is_hub_id(location: Location) -> bool:
    value, field = location.value, location.field
    if not field.on_hub or value in _OURS or _NAMED.match(value) or _is_missing_path(location):
        return False
    return existing_path(value) is None and bool(_HUB_ID.match(value))


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
