"""Suite file: tasks and gates, loaded with one error for all of its problems."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from evaluation.config.gates import MetricGate, gate_problems
from evaluation.config.scores import LlmJudge, ScoreSection
from evaluation.config.tasks import AnyTask, DataFile, GenerationTask, PromptedTask, TaskSection
from training.config.base import ConfigSection
from training.config.load import read_document
from training.errors import JobError, Problem
from validation.error_messages import explain

SUITE_FILE = "suite.yaml"
"""Suite of a folder that holds it and its data."""
SHIPPED = Path(__file__).parents[1] / "suites"
"""Folder of the suites that come with the package, which a bare name finds."""


class Suite(ConfigSection):
    """Tasks on which models are evaluated and compared."""

    suite: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
    """Name of the suite."""
    tasks: Annotated[tuple[AnyTask, ...], Field(min_length=1)]
    """Tasks, each with a name of its own."""
    gates: tuple[MetricGate, ...] = ()
    """Limits that an evaluation must meet."""

    @property
    def digest(self) -> str:
        """Digest of the name and the gates; `task_digest` covers the tasks."""
        return _digest(self.model_dump(mode="json", exclude={"tasks"}))


def task_digest(task: TaskSection, items: list[Any]) -> str:
    """Return the digest of a task, its templates and its items.

    Args:
        task: Section of the task.
        items: Its items as JSON values: prompts, choices and targets.
    """
    settings = task.model_dump(mode="json", exclude={"data": {"path"}})
    return _digest([settings, items])


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def load_suite(path: Path, *, against: bool = True) -> Suite:
    """Return the suite in a file, with the paths of its data found.

    Args:
        path: A YAML file, a folder that holds `suite.yaml`, or the name of a suite that comes with
            the package.
        against: True if another model is evaluated as well, which some gates need.

    Raises:
        JobError: The file cannot be used; the error lists every problem in it.
    """
    if path.is_dir():
        path = path / SUITE_FILE
    if not path.exists() and (SHIPPED / f"{path}.yaml").is_file():
        path = SHIPPED / f"{path}.yaml"
    names = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.yaml")))
    hint = f"Suites that come with Temper: {names}" if names else ""
    document = read_document(path, hint=hint)
    if not isinstance(document, dict):
        raise JobError(str(path), [Problem("(file)", "a suite is a mapping: suite, tasks, gates")])
    try:
        suite = Suite.model_validate(document)
    except ValidationError as error:
        raise JobError(str(path), explain(error, Suite)) from None
    suite = _with_found_files(suite, path.parent)
    # Which metrics a score gives is known only when it has run: `decide_gates` names a missing one.
    metrics = {task.name: _metrics(task) for task in suite.tasks}
    problems = [
        *_problems(suite),
        *_comparing_problems(suite, against=against),
        *gate_problems(suite.gates, metrics, against=against),
    ]
    if problems:
        raise JobError(str(path), problems)
    return suite


def _metrics(task: TaskSection) -> tuple[str, ...] | None:
    return task.metrics if task.metrics else None


def _with_found_files(suite: Suite, folder: Path) -> Suite:
    """Return the suite with the files that exist next to it found there."""

    def found(data: DataFile) -> DataFile:
        beside = folder / data.path
        return data.model_copy(update={"path": str(beside)}) if beside.exists() else data

    tasks = []
    for task in suite.tasks:
        update: dict[str, Any] = {"data": found(task.data)}
        if isinstance(task, PromptedTask) and task.few_shot is not None:
            few_shot = task.few_shot
            update["few_shot"] = few_shot.model_copy(update={"data": found(few_shot.data)})
        if isinstance(task, GenerationTask):
            update["scores"] = tuple(_with_found_labels(score, folder) for score in task.scores)
        tasks.append(task.model_copy(update=update))
    return suite.model_copy(update={"tasks": tuple(tasks)})


def _with_found_labels(score: ScoreSection, folder: Path) -> ScoreSection:
    """Return a score with its human labels found next to the suite, if it has any."""
    if not isinstance(score, LlmJudge) or score.human_labels is None:
        return score
    beside = folder / score.human_labels
    return score.model_copy(update={"human_labels": str(beside)}) if beside.exists() else score


def _comparing_problems(suite: Suite, *, against: bool) -> Iterator[Problem]:
    """Yield scores that need another model, if there is none, and labels that do not exist."""
    for index, task in enumerate(suite.tasks):
        for number, score in enumerate(task.scores if isinstance(task, GenerationTask) else ()):
            key = f"tasks.{index}.scores.{number}"
            if score.compares and not against:
                message = "answers are compared with those of another model, and there is none"
                fix = "Name it with --against (AGAINST=…), or set mode: single"
                yield Problem(key, message, score.label, fix)
            labels = score.human_labels if isinstance(score, LlmJudge) else None
            if labels is not None and not Path(labels).is_file():
                fix = "Paths are taken from the folder of the suite, then the working directory"
                yield Problem(f"{key}.human_labels", "there is no such file", labels, fix)


def _problems(suite: Suite) -> Iterator[Problem]:
    names: set[str] = set()
    for index, task in enumerate(suite.tasks):
        key = f"tasks.{index}"
        if task.name in names:
            yield Problem(f"{key}.name", "two tasks share a name", task.name)
        names.add(task.name)
        yield from _missing_file(f"{key}.data", task.data)
        if isinstance(task, PromptedTask) and task.few_shot is not None:
            yield from _missing_file(f"{key}.few_shot.data", task.few_shot.data)
        if isinstance(task, GenerationTask):
            yield from _generation_problems(key, task)


def _missing_file(key: str, data: DataFile) -> Iterator[Problem]:
    if not Path(data.path).is_file():
        yield Problem(
            f"{key}.path",
            "there is no such file",
            data.path,
            "Paths are taken from the folder of the suite, then from the working directory",
        )


def _generation_problems(key: str, task: GenerationTask) -> Iterator[Problem]:
    if task.target is None and (needing := [s.kind for s in task.scores if s.needs_target]):
        yield Problem(
            f"{key}.target", f"{', '.join(needing)} compare with a target, and the task has none"
        )
    if task.target is None and task.few_shot is not None:
        yield Problem(f"{key}.target", "examples need a target: the answer that they show")
    labels = [(score.kind, score.name) for score in task.scores]
    for kind in sorted({kind for kind, name in labels if labels.count((kind, name)) > 1}):
        yield Problem(
            f"{key}.scores", f"two scores {kind} would have the same metrics", fix="Name one: name"
        )
    if task.samples > 1 and task.temperature == 0:
        yield Problem(
            f"{key}.samples",
            "greedy decoding gives the same answer each time",
            str(task.samples),
            "Set temperature",
        )
    if task.follow_ups is not None:
        yield from _follow_up_problems(key, task)


def _follow_up_problems(key: str, task: GenerationTask) -> Iterator[Problem]:
    if not task.chat:
        message = "a conversation goes through the model's chat template"
        yield Problem(f"{key}.follow_ups", message, fix="Set chat: true")
    if task.samples > 1:
        message = "a conversation is continued from one answer"
        yield Problem(f"{key}.samples", message, str(task.samples), "Leave out samples")
    for number, score in enumerate(task.scores):
        if score.compares:
            message = "the two models have different conversations before the last answer"
            yield Problem(f"{key}.scores.{number}", message, score.label, "Set mode: single")
