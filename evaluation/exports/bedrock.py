"""Suite as evaluation jobs of Amazon Bedrock: `CreateEvaluationJob` requests and prompt data sets.

Bedrock either asks a model for answers, or judges answers that an evaluation by Temper has made.
"""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

from evaluation.config.scores import LlmJudge
from evaluation.config.suite import Suite
from evaluation.config.tasks import GenerationTask
from evaluation.exports.aws import (
    ROLE_OPTION,
    S3_OPTION,
    aws_name,
    flat_prompt,
    require_options,
    s3_path,
    why_not_judged,
)
from evaluation.exports.base import (
    ExportedSuite,
    ExportOptions,
    Findings,
    Items,
    json_lines,
    score_key,
)
from evaluation.exports.bedrock_answers import RecordedAnswers, read_answers
from evaluation.exports.bedrock_jobs import (
    MAX_PROMPTS,
    BedrockDataset,
    BedrockMetric,
    judge_metric,
    pack_jobs,
)
from evaluation.items import Item
from training.config.judges import BedrockJudge

_MODEL_OPTION = (
    r".+",
    "--model with the id or ARN of a model, or --answers with the folder of an evaluation",
)
_BUILT_IN = {
    "token_f1": ("QuestionAndAnswer", "the words' F1 (NLP-F1)"),
    "bert_score": ("Summarization", "BERTScore by a model of AWS"),
    "classification": ("Classification", "the accuracy"),
}
"""Task type of each score that `Builtin.Accuracy` computes, and what it computes."""


def export_bedrock(suite: Suite, items: Items, options: ExportOptions) -> ExportedSuite:
    """Return a suite as evaluation jobs of Bedrock.

    Args:
        suite: The suite.
        items: Items of each task.
        options: Folder in S3, role, and model or answers.

    Raises:
        JobError: An option is missing.
        RunError: The answers are of other items.
    """
    needed = {"s3": S3_OPTION, "role": ROLE_OPTION}
    if options.answers is None:
        needed["model"] = _MODEL_OPTION
    require_options("Bedrock", options, needed)
    findings = Findings("Bedrock")
    answers = None if options.answers is None else read_answers(options.answers, suite, items)
    datasets: list[BedrockDataset] = []
    files: dict[str, str] = {}
    for index, task in findings.generation_tasks(suite):
        metrics = _metrics(index, task, suite, answers, findings)
        if not metrics:
            continue
        rows = [row for item in items[task.name] if (row := _row(task, item, answers))]
        if missing := len(items[task.name]) - len(rows):
            findings.note(f"{task.name}: {missing} items have no answer and are left out")
        if task.chat:
            findings.note(f"{task.name}: system message, examples and question are one prompt")
        for number in range(0, len(rows), MAX_PROMPTS):
            part = rows[number : number + MAX_PROMPTS]
            name = f"{task.name}-{number // MAX_PROMPTS + 1}"
            files[f"datasets/{name}.jsonl"] = json_lines(part)
            uri = s3_path(options, "datasets", f"{name}.jsonl")
            datasets += [
                BedrockDataset(task, name, uri, len(part), tuple(same_kind))
                for _, same_kind in groupby(metrics, lambda metric: metric.kind)
            ]
    jobs = pack_jobs(suite.suite, datasets, options, answers)
    for number, job in enumerate(jobs, start=1):
        files[f"job-{number}.json"] = json.dumps(job, indent=1, ensure_ascii=False) + "\n"
    commands = [f"aws s3 cp FOLDER/datasets {s3_path(options, 'datasets')} --recursive"]
    commands += [
        f"aws bedrock create-evaluation-job --cli-input-json file://FOLDER/job-{number}.json"
        for number in range(1, len(jobs) + 1)
    ]
    tasks = tuple(dict.fromkeys(dataset.task.name for dataset in datasets))
    notes = tuple(findings.notes)
    return ExportedSuite(files, tasks, tuple(commands), tuple(findings.problems), notes)


def _metrics(
    index: int,
    task: GenerationTask,
    suite: Suite,
    answers: RecordedAnswers | None,
    findings: Findings,
) -> list[BedrockMetric]:
    """Return what Bedrock can compute of a task's scores.

    Args:
        index: Number of the task.
        task: The task.
        suite: The suite.
        answers: Answers that are judged; None if Bedrock asks a model.
        findings: Receives what cannot be exported.
    """
    metrics = []
    for number, score in enumerate(task.scores):
        key, what = score_key(index, number), f"{score.label} of {task.name}"
        if isinstance(score, LlmJudge):
            if reason := why_not_judged(score):
                findings.omit(key, what, reason)
                continue
            judge = score.panel[0]
            assert isinstance(judge, BedrockJudge)
            name = aws_name(suite.suite, task.name, score.name or f"rating-{number}")
            metrics.append(judge_metric(score, judge, name))
        elif score.label not in _BUILT_IN:
            findings.omit(key, what, "none of its metrics is this one")
        elif answers is not None:
            findings.omit(key, what, "answers that it is given are scored by judges alone")
        else:
            task_type, computed = _BUILT_IN[score.label]
            metrics.append(BedrockMetric(task_type, "Builtin.Accuracy"))
            findings.note(f"{task.name}: Builtin.Accuracy is {computed}, by AWS's own rules")
    if task.samples > 1:
        findings.note(f"{task.name}: Bedrock asks for one answer in place of {task.samples}")
    return sorted(metrics, key=lambda metric: (metric.task_type, metric.judge or ""))


def _row(
    task: GenerationTask, item: Item, answers: RecordedAnswers | None
) -> dict[str, Any] | None:
    """Return an item as a line of a prompt data set; None without an answer to judge."""
    row: dict[str, Any] = {"prompt": flat_prompt(item)}
    if item.targets:
        row["referenceResponse"] = item.targets[0]
    if item.group is not None:
        row["category"] = item.group
    if answers is None:
        return row
    answer = answers.by_task[task.name].get(item.id)
    if answer is None:
        return None
    response = {"response": answer, "modelIdentifier": answers.source}
    return row | {"modelResponses": [response]}
