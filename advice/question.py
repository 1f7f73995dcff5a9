"""Question to the advice: a model, data, and what the user needs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from advice.dataset_profile import DatasetProfile, profile_dataset
from catalog.instances import instance
from planning.hf_config import NamedShape, shape_named
from planning.machine import unknown_instance
from planning.model_shape import ModelShape
from training.config import Job
from training.config.data import Data
from training.config.input_paths import require_inputs, resolve_paths
from training.config.load import override, parse_job, read_document
from training.config.model import PREVIOUS, SCRATCH, Model
from training.errors import JobError, Problem, TemperError
from validation.error_messages import explain

Result = TypeVar("Result")


@dataclass(frozen=True)
class Requirements:
    """Requirements and limits of the user.

    Attributes:
        instance: Instance type for training; the cheapest that fits if None.
        budget_usd: Most that the training may cost.
        max_hours: Longest time that it may take.
        max_ttft_s: Longest time from a request to the first token of its answer.
        changing_facts: True if answers depend on facts that change.
        keep_general: True if other abilities of the model are to be kept.
        tasks: Number of tasks that share the model.
    """

    instance: str | None = None
    budget_usd: float | None = None
    max_hours: float | None = None
    max_ttft_s: float | None = None
    changing_facts: bool = False
    keep_general: bool = False
    tasks: int = 1


@dataclass(frozen=True)
class Question:
    """Model, data and needs, all of which exist.

    Attributes:
        source: Job file, or the name of the command, for messages.
        document: Job as parsed YAML; only model and data if there is no job file.
        model: The model.
        data: Sources and limits of the data.
        shape: Shape of the model.
        profile: Profile of the data.
        method: Kind of the job's method; empty without a job file.
        needs: The needs.
    """

    source: str
    document: dict[str, Any]
    model: Model
    data: Data
    shape: ModelShape
    profile: DatasetProfile
    method: str
    needs: Requirements


@dataclass(frozen=True)
class Asked:
    """Question as it was typed.

    Attributes:
        job: Job file; None if model and data are named instead.
        overrides: `key=value` pairs for the job.
        model: Model, in place of the job's.
        data: Data, in place of the job's.
        needs: What the user needs; what is left open is that of the job's `resources`.
    """

    job: Path | None
    overrides: str
    model: str
    data: str
    needs: Requirements


class _Problems:
    """Collector of problems, so that all are reported at once."""

    def __init__(self, source: str):
        self.source, self.all = source, list[Problem]()

    def attempt(self, key: str, action: Callable[[], Result]) -> Result | None:
        """Return the result of an action, or None after noting its problem.

        Args:
            key: Key that a problem is reported for, unless it names its own.
            action: What is tried.
        """
        try:
            return action()
        except JobError as error:
            self.all += error.problems
        except TemperError as error:
            self.all.append(Problem(key, str(error)))
        return None

    def raise_if_any(self) -> None:
        """Raise if there are problems.

        Raises:
            JobError: There are problems.
        """
        if self.all:
            raise JobError(self.source, list(dict.fromkeys(self.all)))


def read_question(asked: Asked) -> Question:
    """Return a question whose model and data exist and fit each other.

    Raises:
        JobError: Something is missing, wrong or contradictory; the error lists every problem.
    """
    source = str(asked.job) if asked.job is not None else "temper advise"
    problems = _Problems(source)
    document = _document(asked, source)
    job = problems.attempt("job", lambda: _checked(document, asked.job, source))
    model, data = (job.model, job.data) if job else _sections(document, source, problems)
    name = asked.needs.instance
    if name is not None and instance(name) is None:
        problems.all.append(unknown_instance(name, "--instance"))
    shape = model and problems.attempt("model", lambda: _shape(model, asked.model))
    want = "any" if job is None else job.method.rows
    profile = data and problems.attempt(
        "data.train", lambda: profile_dataset(_only_source(data), want, data.limit)
    )
    problems.raise_if_any()
    assert isinstance(shape, ModelShape) and isinstance(profile, DatasetProfile)
    assert model is not None and data is not None
    needs = asked.needs if job is None else _with_resources(asked.needs, job)
    method = "" if job is None else job.method.kind
    return Question(source, document, model, data, shape, profile, method, needs)


def _document(asked: Asked, source: str) -> dict[str, Any]:
    """Return the job as parsed YAML, with the model and the data that the options name.

    Raises:
        JobError: The file cannot be read, or is not the job of one run.
    """
    written: Any = {} if asked.job is None else read_document(asked.job)
    if isinstance(written, dict):
        written = _with_named(written, asked)
    document: Any = override(written, asked.overrides, source)
    if not isinstance(document, dict) or "stages" in document:
        fix = "Name the model and the data of a stage: --model M --data D"
        raise JobError(source, [Problem("stages", "advice is for one run", fix=fix)])
    document.pop("search", None)
    missing = [
        Problem(f"--{part}", f"there is no {part}", fix=f"Name a job file, or --{part}")
        for part in ("model", "data")
        if not document.get(part)
    ]
    if missing:
        raise JobError(source, missing)
    return document


def _with_named(written: dict[str, Any], asked: Asked) -> dict[str, Any]:
    """Return a parsed job with the model and the data that the options name."""
    document = copy.deepcopy(written)
    if asked.model:
        document["model"] = {**(document.get("model") or {}), "source": asked.model}
    if asked.data:
        # A source with keys of its own can be overridden key by key.
        train = {"source": asked.data} if "data.train." in asked.overrides else asked.data
        document["data"] = {**(document.get("data") or {}), "train": train}
    return document


def _checked(document: dict[str, Any], path: Path | None, source: str) -> Job | None:
    """Return the checked job of a file; None without a file.

    Raises:
        JobError: The job is invalid.
    """
    if path is None or "method" not in document:
        return None
    job = resolve_paths(parse_job(copy.deepcopy(document), source), path.parent)
    assert isinstance(job, Job)
    require_inputs(job, path.parent)
    return job


def _sections(
    document: dict[str, Any], source: str, problems: _Problems
) -> tuple[Model | None, Data | None]:
    """Return model and data of a question without a valid job file."""
    parsed: list[Any] = []
    for key, section in (("model", Model), ("data", Data)):
        try:
            parsed.append(section.model_validate(document[key]))
        except ValidationError as error:
            found = explain(error, section)
            problems.all += [replace(p, path=f"{key}.{p.path}") for p in found]
            parsed.append(None)
    return parsed[0], parsed[1]


def _shape(model: Model, option: str) -> ModelShape:
    """Return the shape of the model.

    Raises:
        JobError: It has no weights yet, or its `config.json` cannot be read.
    """
    key = "--model" if option else "model.source"
    if model.source in (SCRATCH, PREVIOUS):
        fix = "Name a pretrained model: with random weights, there is nothing to choose"
        raise JobError("temper advise", [Problem(key, "has no weights", model.source, fix)])
    return shape_named(NamedShape(model.source, model.revision, "temper advise", key))


def _only_source(data: Data) -> Any:
    """Return the source of the data.

    Raises:
        JobError: The job has prompts in place of data, or several sources.
    """
    if len(data.train) != 1:
        message = "has no rows to look at" if not data.train else "has several sources"
        fix = "Name one with --data: a file or a folder of rows"
        raise JobError("temper advise", [Problem("data.train", message, str(len(data.train)), fix)])
    return data.train[0]


def _with_resources(needs: Requirements, job: Job) -> Requirements:
    """Return the needs, where they are left open those of the job's `resources`."""
    resources = job.resources
    hours = None if resources.max_runtime is None else resources.max_runtime / 3600
    return replace(
        needs,
        instance=needs.instance or resources.instance,
        budget_usd=resources.max_cost if needs.budget_usd is None else needs.budget_usd,
        max_hours=hours if needs.max_hours is None else needs.max_hours,
    )
