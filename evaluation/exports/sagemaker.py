"""Suite as a serverless evaluation by SageMaker AI: a pipeline, data sets, and a scorer.

The pipeline is that of the evaluators of the SageMaker Python SDK 3.27 without its lineage steps:
each step is a training job with a `ServerlessJobConfig`. Scores of generated answers are computed
by a Lambda function, which must be registered as an evaluator; a judge is a model on Bedrock.
"""

from __future__ import annotations

import json
import pprint
from collections.abc import Sequence
from typing import Any

from evaluation.config.scores import LlmJudge
from evaluation.config.suite import Suite
from evaluation.config.tasks import GenerationTask
from evaluation.exports.aws import (
    ROLE_OPTION,
    S3_OPTION,
    aws_name,
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
    render_module,
    score_fields,
    score_key,
    section_json,
    why_not_portable,
)
from evaluation.exports.bedrock_jobs import judge_metric
from evaluation.exports.bundle import bundle_source
from evaluation.exports.portable_scores import PORTABLE_METRICS
from evaluation.exports.sagemaker_pipeline import JudgedTask, pipeline_request
from evaluation.items import Item
from training.config.judges import BedrockJudge
from training.errors import JobError, Problem

_BASE_OPTION = (
    r"arn:aws[^:]*:sagemaker:[^:]+:([0-9]{12}|aws):hub-content/[^/]+/Model/.+",
    "--base arn:aws:sagemaker:REGION:aws:hub-content/SageMakerPublicHub/Model/NAME/VERSION",
)
_PACKAGE_OPTION = (
    r"arn:aws[^:]*:sagemaker:[^:]+:[0-9]{12}:model-package/[^/]+/[0-9]+",
    "--model arn:aws:sagemaker:REGION:ACCOUNT:model-package/GROUP/VERSION",
)
_EVALUATOR_OPTION = (
    r"arn:aws[^:]*:sagemaker:[^:]+:[0-9]{12}:hub-content/.+",
    "--evaluator with the ARN that registering lambda_function.py printed",
)
SCORER = "lambda_function.py"
REQUEST = "create-pipeline.json"
_REGISTER = (
    'python -c "from sagemaker.ai_registry.evaluator import Evaluator; '
    "print(Evaluator.create(name='{name}', type='RewardFunction', source='FOLDER/"
    f"{SCORER}').arn)\""
)


def export_sagemaker(suite: Suite, items: Items, options: ExportOptions) -> ExportedSuite:
    """Return a suite as a serverless evaluation by SageMaker.

    Args:
        suite: The suite.
        items: Items of each task.
        options: Folder in S3, role, base, and model package.

    Raises:
        JobError: An option is missing, or the base is an Amazon Nova model.
    """
    _check_options(options)
    findings = Findings("SageMaker")
    files: dict[str, str] = {}
    scored: dict[str, dict[str, Any]] = {}
    judged: list[JudgedTask] = []
    tasks: list[GenerationTask] = []
    for index, task in findings.generation_tasks(suite):
        rows = items[task.name]
        sections, ratings = _scores(index, task, rows, findings)
        if not sections and not ratings:
            continue
        tasks.append(task)
        _note_differences(task, findings)
        files[f"datasets/{task.name}.jsonl"] = json_lines(_row(task, item) for item in rows)
        judged += ratings
        if sections:
            scored[task.name] = {"sections": sections, "stop": list(task.stop)}
    for rating in judged:
        metric = [{"customMetricDefinition": rating.definition}]
        files[f"datasets/{rating.name}.metrics.json"] = _json(metric)
    name = aws_name(suite.suite, "evaluation")
    commands = [f"aws s3 cp FOLDER/datasets {s3_path(options, 'datasets')} --recursive"]
    if scored:
        files[SCORER] = _scorer(suite, scored)
    if scored and options.evaluator is None:
        commands += [_REGISTER.format(name=name), "and this command again with --evaluator"]
    else:
        with_scorer = [task for task in tasks if task.name in scored]
        files[REQUEST] = _json(pipeline_request(name, with_scorer, judged, options))
        commands += [
            f"aws sagemaker create-pipeline --cli-input-json file://FOLDER/{REQUEST}",
            f"aws sagemaker start-pipeline-execution --pipeline-name {name}",
        ]
    names = tuple(task.name for task in tasks)
    notes = tuple(findings.notes)
    return ExportedSuite(files, names, tuple(commands), tuple(findings.problems), notes)


def _check_options(options: ExportOptions) -> None:
    needed = {"s3": S3_OPTION, "role": ROLE_OPTION, "base": _BASE_OPTION}
    if options.model is not None:
        needed["model"] = _PACKAGE_OPTION
    if options.evaluator is not None:
        needed["evaluator"] = _EVALUATOR_OPTION
    require_options("SageMaker", options, needed)
    if "/Model/nova-" in str(options.base):
        fix = "Export to bedrock with --model in place of --base"
        message = "Amazon Nova takes data and scorers of another form"
        raise JobError("export to SageMaker", [Problem("--base", message, str(options.base), fix)])


def _scores(
    index: int, task: GenerationTask, items: Sequence[Item], findings: Findings
) -> tuple[list[dict[str, Any]], list[JudgedTask]]:
    """Return the sections of the scores that the scorer computes, and the ratings.

    Args:
        index: Number of the task.
        task: The task.
        items: Its items.
        findings: Receives what cannot be exported.
    """
    sections, ratings = [], []
    for number, score in enumerate(task.scores):
        key, what = score_key(index, number), f"{score.label} of {task.name}"
        if score.label in PORTABLE_METRICS:
            sections.append(section_json(task, number, items))
            if score.kind == "classification":
                findings.note(f"{task.name}: SageMaker does not compute macro_f1 and mcc")
        elif isinstance(score, LlmJudge):
            if reason := why_not_judged(score):
                findings.omit(key, what, reason)
                continue
            judge = score.panel[0]
            assert isinstance(judge, BedrockJudge)
            label = score.name or f"rating-{number}"
            metric = judge_metric(score, judge, aws_name(task.name, label, limit=36))
            assert metric.definition is not None
            ratings.append(JudgedTask(task, metric.name, judge.model, metric.definition))
        else:
            findings.omit(key, what, why_not_portable(score.label))
    return sections, ratings


def _note_differences(task: GenerationTask, findings: Findings) -> None:
    if not task.chat:
        findings.note(f"{task.name}: the prompt is a message of the user, not a text to continue")
    elif task.few_shot is not None:
        findings.note(f"{task.name}: the examples are part of the user's message")
    if task.stop:
        findings.note(f"{task.name}: generation does not end at stop texts; the scorer cuts there")
    if task.samples > 1:
        findings.note(f"{task.name}: SageMaker asks for one answer in place of {task.samples}")


def _row(task: GenerationTask, item: Item) -> dict[str, Any]:
    """Return an item as a row of the form "SageMaker Evaluation"."""
    row: dict[str, Any] = {}
    prompt = item.prompt
    if isinstance(prompt, list) and prompt[0]["role"] == "system":
        row["system"] = prompt[0]["content"]
        prompt = prompt[1:]
    text = prompt if isinstance(prompt, str) else "\n\n".join(m["content"] for m in prompt)
    row |= {"query": text, "response": item.targets[0] if item.targets else ""}
    if item.group is not None:
        row["category"] = item.group
    metadata: dict[str, Any] = {"task": task.name, "targets": list(item.targets)}
    if fields := score_fields(task, item):
        metadata["fields"] = fields
    return row | {"metadata": metadata}


def _scorer(suite: Suite, scored: dict[str, dict[str, Any]]) -> str:
    return render_module(
        "sagemaker_scorer.py.jinja",
        suite=suite.suite,
        functions=bundle_source(("evaluation.exports.portable_scores", "score_answer")),
        tasks=pprint.pformat(scored, width=96, sort_dicts=False),
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
