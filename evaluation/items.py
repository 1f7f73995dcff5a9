"""Items of a task: rows of its file, rendered into prompts, choices and targets."""

from __future__ import annotations

import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.config.tasks import (
    DataFile,
    GenerationTask,
    MultipleChoice,
    Perplexity,
    PromptedTask,
    TaskSection,
)
from evaluation.config.templates import TemplateError, evaluate, render
from training.config.data import Source
from training.data.readers.records import BadRecord
from training.data.readers.sources import locate
from training.data.schema.rows import Message
from training.errors import DataError

Prompt = str | list[Message]
EXAMPLE_SEPARATOR = "\n\n"
_SHOWN = 5


@dataclass(frozen=True)
class Item:
    """One question of a task.

    Attributes:
        id: Its identity in the task.
        fields: Columns of its row.
        prompt: Prompt: text, or messages for a chat template; the text itself of a perplexity.
        choices: Choices of a multiple choice, with the delimiter before them.
        right: Index of the right choice.
        targets: Right answers.
        group: Value of the task's group column.
        question: Prompt without description and examples.
        follow_ups: Further messages of the user, each asked after the answer to the one before it.
    """

    id: str
    fields: Mapping[str, Any]
    prompt: Prompt
    choices: tuple[str, ...] = ()
    right: int | None = None
    targets: tuple[str, ...] = ()
    group: str | None = None
    question: str = ""
    follow_ups: tuple[str, ...] = ()

    def to_json(self) -> list[Any]:
        """Return what the digest of a task covers."""
        follow_ups = [self.follow_ups] if self.follow_ups else []
        return [self.id, self.prompt, self.choices, self.right, self.targets, *follow_ups]


def read_all_items(tasks: Sequence[TaskSection]) -> dict[str, list[Item]]:
    """Return the items of each task, by its name.

    Raises:
        DataError: Items of tasks cannot be used; says what is wrong with each task.
    """
    items: dict[str, list[Item]] = {}
    faults: list[str] = []
    for task in tasks:
        try:
            items[task.name] = read_items(task)
        except DataError as fault:
            faults.append(str(fault))
    if faults:
        raise DataError("\n".join(faults))
    return items


def read_items(task: TaskSection) -> list[Item]:
    """Return the items of a task.

    Raises:
        DataError: The file cannot be read, has no rows, or rows lack columns that the task names;
            the error lists the first such rows.
    """
    rows = read_rows(task.data, task.name)
    examples = _examples(task, rows) if isinstance(task, PromptedTask) else []
    items: list[Item] = []
    faults: list[str] = []
    for number, row in rows:
        try:
            items.append(_item(task, number, row, examples))
        except TemplateError as fault:
            faults.append(f"  row {number}: {fault}")
    if faults:
        more = len(faults) - _SHOWN
        shown = "\n".join(faults[:_SHOWN]) + (f"\n  and {more} more rows" if more > 0 else "")
        raise DataError(
            f"task {task.name}: {len(faults)} of {len(rows)} rows of {task.data.path} cannot be "
            f"used:\n{shown}"
        )
    _check_unique(task, items)
    return items


def read_rows(data: DataFile, task: str) -> list[tuple[int, dict[str, Any]]]:
    """Return the rows of a file that a task takes, with their numbers from 1.

    Args:
        data: The file and what to take of it.
        task: Name of the task, for messages.

    Raises:
        DataError: The file cannot be read, a row in it cannot, or nothing is left of it.
    """
    rows: list[tuple[int, dict[str, Any]]] = []
    bad: list[str] = []
    source = locate(Source(source=data.path))
    for number, (_, record) in enumerate(source.records(), start=1):
        if isinstance(record, BadRecord):
            bad.append(f"  {record.origin}: {record.reason}")
        elif all(record.values.get(column) == value for column, value in data.where.items()):
            rows.append((number, record.values))
    if bad:
        shown = "\n".join(bad[:_SHOWN])
        raise DataError(f"task {task}: {len(bad)} rows of {data.path} cannot be read:\n{shown}")
    if not rows:
        why = f" with {data.where}" if data.where else ""
        raise DataError(f"task {task}: {data.path} has no rows{why}. Name a file that has items")
    if data.rows is not None and data.seed is not None:
        rows = sorted(random.Random(data.seed).sample(rows, min(data.rows, len(rows))))
    return rows[: data.rows]


def _examples(
    task: PromptedTask, items: Sequence[tuple[int, dict[str, Any]]]
) -> list[tuple[str, str]]:
    """Return prompt and answer of each example.

    Args:
        task: Section of the task.
        items: Rows of the items, with their numbers.

    Raises:
        DataError: An example cannot be rendered, is also an item, or there are too few.
    """
    if task.few_shot is None:
        return []
    rows = read_rows(task.few_shot.data, task.name)[: task.few_shot.count]
    if len(rows) < task.few_shot.count:
        raise DataError(
            f"task {task.name}: few_shot.count is {task.few_shot.count}, but "
            f"{task.few_shot.data.path} has {len(rows)} rows"
        )
    try:
        pairs = [(render(task.prompt, row), _example_answer(task, row)) for _, row in rows]
    except TemplateError as fault:
        path = task.few_shot.data.path
        raise DataError(f"task {task.name}: example of {path}: {fault}") from None
    prompts = {prompt for prompt, _ in pairs}
    for number, row in items:
        try:
            repeated = render(task.prompt, row) in prompts
        except TemplateError:  # reported with the items
            continue
        if repeated:
            raise DataError(
                f"task {task.name}: row {number} of {task.data.path} is also an example of "
                f"few_shot. The model would be shown the answer: take examples from another file, "
                f"or other rows with where"
            )
    return pairs


def _example_answer(task: PromptedTask, row: Mapping[str, Any]) -> str:
    if isinstance(task, MultipleChoice):
        choices = _choices(task, row)
        return task.target_delimiter + choices[_right(task, row, choices)]
    assert isinstance(task, GenerationTask)
    return task.target_delimiter + _targets(task, row)[0]


def _item(
    task: TaskSection, number: int, row: Mapping[str, Any], examples: Sequence[tuple[str, str]]
) -> Item:
    name = str(number) if task.id is None else str(evaluate_column(task.id, row))
    group = None if task.group is None else str(evaluate_column(task.group, row))
    if isinstance(task, Perplexity):
        text = str(evaluate(task.text, row))
        if not text:
            raise TemplateError("the text is empty")
        return Item(name, row, text, group=group, question=text)
    assert isinstance(task, PromptedTask)
    question = render(task.prompt, row)
    prompt = _prompt(task, question, examples)
    if isinstance(task, MultipleChoice):
        choices = _choices(task, row)
        right = _right(task, row, choices)
        delimited = tuple(task.target_delimiter + choice for choice in choices)
        return Item(name, row, prompt, delimited, right, (choices[right],), group, question)
    assert isinstance(task, GenerationTask)
    return Item(
        name,
        row,
        prompt,
        targets=_targets(task, row),
        group=group,
        question=question,
        follow_ups=_follow_ups(task, row),
    )


def _prompt(task: PromptedTask, text: str, examples: Sequence[tuple[str, str]]) -> Prompt:
    if not task.chat:
        shown = "".join(p + answer + EXAMPLE_SEPARATOR for p, answer in examples)
        return task.description + shown + text
    messages: list[Message] = []
    if task.description:
        messages.append({"role": "system", "content": task.description})
    for prompt, answer in examples:
        messages.append({"role": "user", "content": prompt})
        messages.append({"role": "assistant", "content": answer.strip()})
    return [*messages, {"role": "user", "content": text}]


def evaluate_column(column: str, row: Mapping[str, Any]) -> Any:
    """Return the value of a column.

    Raises:
        TemplateError: The row has no such column.
    """
    if column not in row:
        raise TemplateError(f"there is no column {column!r}. The columns are {', '.join(row)}")
    return row[column]


def _choices(task: MultipleChoice, row: Mapping[str, Any]) -> tuple[str, ...]:
    if isinstance(task.choices, str):
        value = evaluate(task.choices, row)
        if isinstance(value, str) or not isinstance(value, Sequence) or len(value) < 2:
            raise TemplateError(f"choices is {value!r}: a list of two or more is needed")
        return tuple(str(choice) for choice in value)
    return tuple(str(evaluate(choice, row)) for choice in task.choices)


def _right(task: MultipleChoice, row: Mapping[str, Any], choices: Sequence[str]) -> int:
    """Return the index of the right choice, which is given as index, letter or text.

    Raises:
        TemplateError: It is none of these.
    """
    value = evaluate(task.target, row)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(choices):
        return value
    text = str(value).strip()
    if text in choices:
        return list(choices).index(text)
    if text.isdigit() and int(text) < len(choices):
        return int(text)
    letter = string.ascii_uppercase.find(text.upper()) if len(text) == 1 else -1
    if 0 <= letter < len(choices):
        return letter
    raise TemplateError(f"target {value!r} is neither index, letter nor text of {list(choices)}")


def _targets(task: GenerationTask, row: Mapping[str, Any]) -> tuple[str, ...]:
    if task.target is None:
        return ()
    templates = (task.target,) if isinstance(task.target, str) else task.target
    values = [evaluate(template, row) for template in templates]
    if len(values) == 1 and isinstance(values[0], list | tuple):
        values = list(values[0])
    if values == [None] and not any(score.needs_target for score in task.scores):
        return ()
    if not values or any(value is None or value == "" for value in values):
        raise TemplateError(f"target is {values!r}: an answer is needed")
    return tuple(str(value) for value in values)


def _follow_ups(task: GenerationTask, row: Mapping[str, Any]) -> tuple[str, ...]:
    if task.follow_ups is None:
        return ()
    value = evaluate(task.follow_ups, row)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TemplateError(f"follow_ups is {value!r}: a list of messages is needed")
    return tuple(str(message) for message in value)


def _check_unique(task: TaskSection, items: Sequence[Item]) -> None:
    names = [item.id for item in items]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise DataError(
            f"task {task.name}: two items have the id {repeated!r}. Name a column in id whose "
            f"values differ, or leave id out to number the rows"
        )
