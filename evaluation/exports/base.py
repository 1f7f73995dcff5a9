"""Interface of the formats that suites are exported to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from jinja2 import Environment, PackageLoader

from evaluation.config.suite import Suite
from evaluation.config.tasks import GenerationTask, TaskSection
from evaluation.items import Item
from training.errors import Problem

Items = Mapping[str, Sequence[Item]]
"""Items of each task of a suite."""


@dataclass(frozen=True)
class ExportOptions:
    """Values that a request to AWS needs beyond the suite.

    Attributes:
        s3: Folder in S3 of the data sets and the results.
        role: ARN of the role that the job has.
        model: Evaluated model, as the service names it.
        base: ARN of the model that the evaluated one was trained from.
        answers: Folder of an evaluation by Temper whose answers are judged.
        evaluator: ARN of the registered scorer.
        mlflow: ARN of an MLflow tracking server or app.
        accept_eula: True if the license of the base is accepted.
    """

    s3: str | None = None
    role: str | None = None
    model: str | None = None
    base: str | None = None
    answers: Path | None = None
    evaluator: str | None = None
    mlflow: str | None = None
    accept_eula: bool = False


@dataclass(frozen=True)
class ExportedSuite:
    """Suite in another format.

    Attributes:
        files: Text of each file, by its path in the folder.
        tasks: Names of the exported tasks.
        commands: Commands that run it, with `FOLDER` for the folder.
        problems: Tasks and scores that the format cannot express.
        notes: Where the results differ from Temper's.
    """

    files: dict[str, str]
    tasks: tuple[str, ...]
    commands: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


class SuiteExport(Protocol):
    """Interface of a format."""

    def __call__(self, suite: Suite, items: Items, options: ExportOptions) -> ExportedSuite:
        """Return a suite in the format.

        Args:
            suite: The suite.
            items: Items of each task.
            options: Options of requests to AWS.

        Raises:
            TemperError: An option is missing, or an item cannot be exported.
        """


@dataclass
class Findings:
    """Parts that a format cannot express, and differences of its results, as an export finds them.

    Attributes:
        tool: Name of the tool, for messages.
        problems: Tasks and scores that cannot be expressed.
        notes: Differences.
    """

    tool: str
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def omit(self, key: str, what: str, reason: str) -> None:
        """Record that a task or a score cannot be exported.

        Args:
            key: Its key in the suite file.
            what: Its name or kind.
            reason: Why, as a sentence.
        """
        message = f"{what} cannot be exported to {self.tool}: {reason}"
        self.problems.append(Problem(key, message))

    def asks_once(self, index: int, task: TaskSection) -> bool:
        """Return True if a task asks one question; otherwise record that it is not exported.

        Args:
            index: Number of the task.
            task: The task.
        """
        if not isinstance(task, GenerationTask) or task.follow_ups is None:
            return True
        reason = "each item is one question there"
        self.omit(f"tasks.{index}.follow_ups", f"the conversations of {task.name}", reason)
        return False

    def generation_tasks(self, suite: Suite) -> Iterator[tuple[int, GenerationTask]]:
        """Yield number and section of each task that asks one question; record the others.

        Args:
            suite: The suite.
        """
        for index, task in enumerate(suite.tasks):
            if not isinstance(task, GenerationTask):
                reason = "it asks for answers, and does not compute likelihoods"
                self.omit(f"tasks.{index}", f"{task.kind} {task.name}", reason)
            elif self.asks_once(index, task):
                yield index, task

    def note(self, text: str) -> None:
        """Record a difference, once."""
        if text not in self.notes:
            self.notes.append(text)


_NOT_PORTABLE = {
    "bleu": "it is a metric of all answers at once",
    "chrf": "it is a metric of all answers at once",
    "pass_at_k": "programs run in Temper's sandbox",
    "json_schema": "it needs a validator of JSON Schema",
    "instructions": "it needs the rules of IFEval",
    "bert_score": "it needs the model that compares hidden states",
    "judge": "it needs calls to a judge",
}


def why_not_portable(kind: str) -> str:
    """Return why a kind of score cannot be computed by functions that an export carries."""
    return _NOT_PORTABLE[kind]


def score_key(task: int, score: int) -> str:
    """Return the key of a score in the suite file."""
    return f"tasks.{task}.scores.{score}"


def section_json(task: GenerationTask, number: int, items: Sequence[Item]) -> dict[str, Any]:
    """Return a score's section with the labels of a classification filled in.

    Args:
        task: The task.
        number: Number of the score.
        items: Items of the task.
    """
    section = task.scores[number].model_dump(mode="json", exclude_none=True)
    if section["kind"] == "classification":
        section.setdefault("labels", sorted({item.targets[0] for item in items}))
    return section


def score_fields(task: GenerationTask, item: Item) -> dict[str, str]:
    """Return the columns of an item that the portable scores of its task read."""
    columns = {score.expected for score in task.scores if score.kind == "refusal"}
    return {name: str(item.fields.get(name)) for name in columns if isinstance(name, str)}


def render_module(template: str, **values: Any) -> str:
    """Return a Python module of a folder, from a template of this package."""
    environment = Environment(
        loader=PackageLoader("evaluation.exports", "templates"), keep_trailing_newline=True
    )
    return environment.get_template(template).render(**values)


def json_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
