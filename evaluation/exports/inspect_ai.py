"""Suite as tasks of Inspect (inspect-ai): one Python file, and the items as JSON Lines.

Generated answers are scored by Temper's own functions, which the file carries. Inspect asks every
model through a chat interface: what is asked as plain text here is a message of the user there.
"""

from __future__ import annotations

import pprint
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.config.scores import LlmJudge
from evaluation.config.suite import Suite
from evaluation.config.tasks import GenerationTask, MultipleChoice, TaskSection
from evaluation.exports.base import (
    ExportedSuite,
    ExportOptions,
    Findings,
    Items,
    json_lines,
    render_module,
    score_fields,
    score_key,
    section_json,
    why_not_portable,
)
from evaluation.exports.bundle import bundle_source
from evaluation.exports.portable_scores import PORTABLE_METRICS
from evaluation.items import Item
from evaluation.task_runner import prompt_text

_BUNDLED = (
    ("evaluation.exports.portable_scores", "score_answer"),
    ("evaluation.judging.rating", "rating_question"),
    ("evaluation.judging.rating", "parse_rating"),
)


@dataclass(frozen=True)
class InspectTask:
    """Task as the file defines it.

    Attributes:
        index: Number in the suite.
        name: Name in the suite.
        solver: Expression of the solver.
        scorers: Expressions of the scorers.
        config: Arguments of the generation settings.
        epochs: Number of answers to each prompt.
    """

    index: int
    name: str
    solver: str
    scorers: tuple[str, ...]
    config: str = ""
    epochs: int = 1

    @property
    def function(self) -> str:
        """Name of the function that returns it."""
        return f"task_{self.index}_{self.name.replace('-', '_')}"


def export_inspect(suite: Suite, items: Items, options: ExportOptions) -> ExportedSuite:
    """Return a suite as tasks of Inspect.

    Args:
        suite: The suite.
        items: Items of each task.
        options: Not used.
    """
    findings = Findings("Inspect")
    tasks: list[InspectTask] = []
    sections: dict[str, list[dict[str, Any]]] = {}
    files = {}
    for index, task in enumerate(suite.tasks):
        if not findings.asks_once(index, task):
            continue
        rows = items[task.name]
        if isinstance(task, MultipleChoice):
            exported = _multiple_choice(index, task, rows, findings)
        elif isinstance(task, GenerationTask):
            exported = _generation(index, task, rows, findings, sections)
        else:
            reason = "it asks for answers, not for the likelihood of a text"
            findings.omit(f"tasks.{index}", f"perplexity {task.name}", reason)
            exported = None
        if exported is not None:
            tasks.append(exported)
            files[f"{task.name}.jsonl"] = json_lines(_sample(task, item) for item in rows)
    files[f"{suite.suite}.py"] = _module(suite, tasks, sections)
    command = f"inspect eval FOLDER/{suite.suite}.py --model MODEL"
    if any("judge_rating" in scorer for task in tasks for scorer in task.scorers):
        command += " --model-role grader=JUDGE"
    names = tuple(task.name for task in tasks)
    notes = tuple(findings.notes)
    return ExportedSuite(files, names, (command,), tuple(findings.problems), notes)


def _multiple_choice(
    index: int, task: MultipleChoice, items: Sequence[Item], findings: Findings
) -> InspectTask | None:
    if max(len(item.choices) for item in items) > len(string.ascii_uppercase):
        findings.omit(f"tasks.{index}", task.name, "it has more choices than letters")
        return None
    findings.note(
        f"{task.name}: Inspect asks for the letter of a choice and does not compare likelihoods, "
        "so that its accuracy is another measure"
    )
    return InspectTask(index, task.name, "multiple_choice()", ("choice()",))


def _generation(
    index: int,
    task: GenerationTask,
    items: Sequence[Item],
    findings: Findings,
    sections: dict[str, list[dict[str, Any]]],
) -> InspectTask | None:
    """Return a generation task with the scores that Inspect can compute; None without any.

    Args:
        index: Number of the task.
        task: The task.
        items: Its items.
        findings: Receives what cannot be exported.
        sections: Receives the sections of the scores that the file computes.
    """
    own, scorers = [], []
    for number, score in enumerate(task.scores):
        what = f"{score.label} of {task.name}"
        if score.label in PORTABLE_METRICS:
            own.append(section_json(task, number, items))
            if score.kind == "classification":
                findings.note(f"{task.name}: Inspect does not compute macro_f1 and mcc")
        elif isinstance(score, LlmJudge) and score.mode == "single" and len(score.panel) == 1:
            settings = (score.rubric, score.scale, score.show_target)
            scorers.append(f"judge_rating{settings!r}")
            findings.note(f"{task.name}: the judge is the model of the role grader")
        elif isinstance(score, LlmJudge):
            reason = "it rates by one model, and compares with no other model's answers"
            findings.omit(score_key(index, number), f"{score.mode} {what}", reason)
        else:
            findings.omit(score_key(index, number), what, why_not_portable(score.label))
    if own:
        sections[task.name] = own
        scorers.insert(0, f"answer_scores({task.name!r})")
    if not scorers:
        return None
    if not task.chat:
        findings.note(f"{task.name}: the prompt is a message of the user, not a text to continue")
    config = [f"max_tokens={task.max_new_tokens}", f"temperature={task.temperature}"]
    if task.stop:
        config.append(f"stop_seqs={list(task.stop)!r}")
    return InspectTask(
        index, task.name, "generate()", tuple(scorers), ", ".join(config), task.samples
    )


def _sample(task: TaskSection, item: Item) -> dict[str, Any]:
    row: dict[str, Any] = {"id": item.id, "input": item.prompt, "group": item.group}
    if isinstance(task, MultipleChoice):
        assert item.right is not None
        delimiter = len(task.target_delimiter)
        choices = [choice[delimiter:] for choice in item.choices]
        return row | {"choices": choices, "target": string.ascii_uppercase[item.right]}
    assert isinstance(task, GenerationTask)
    row |= {"target": list(item.targets) or "", "fields": score_fields(task, item)}
    if any(score.kind == "judge" for score in task.scores):
        row["asked"] = prompt_text(item.prompt)
    return row


def _module(
    suite: Suite, tasks: Sequence[InspectTask], sections: dict[str, list[dict[str, Any]]]
) -> str:
    return render_module(
        "inspect_tasks.py.jinja",
        suite=suite.suite,
        functions=bundle_source(*_BUNDLED),
        sections=pprint.pformat(sections, width=96, sort_dicts=False),
        tasks=tasks,
    )
