"""Evaluation of a model on a suite, paired with the model that it is compared with."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evaluation.config.suite import Suite, task_digest
from evaluation.gates import decide_gates
from evaluation.items import Item
from evaluation.metric import TaskMetric
from evaluation.models.base import EvaluatedModel
from evaluation.results import (
    RESULTS,
    EvaluatedModelInfo,
    EvaluationResult,
    ItemResult,
    MetricResult,
    PairedResult,
    TaskResult,
)
from evaluation.scores.base import ScoreContext
from evaluation.statistics.holm import adjust_comparisons
from evaluation.statistics.paired import compare
from evaluation.statistics.summary import summarise
from evaluation.task_runner import TaskScores, run_task
from training.run_folder import write_whole

ITEMS = "items"
AGAINST = "against"


@dataclass(frozen=True)
class ModelScores:
    """Outcome of a model on all tasks of a suite.

    Attributes:
        info: Identity of the model.
        tasks: Outcome of each task.
    """

    info: EvaluatedModelInfo
    tasks: Mapping[str, TaskScores]


def evaluate_model(
    suite: Suite,
    items: Mapping[str, list[Item]],
    load: Callable[[], EvaluatedModel],
    context: ScoreContext,
    progress: Callable[[str], None],
    other: ModelScores | None = None,
) -> ModelScores:
    """Return the outcome of a model on all tasks.

    Args:
        suite: The suite.
        items: Items of each task.
        load: Loads the model, which is released afterwards.
        context: Resources of scores.
        progress: Receives a line when a task is done.
        other: Outcome of the model that it is compared with, whose answers some scores need.

    Raises:
        TemperError: The model or a score cannot be used.
    """
    model = load()
    tasks = {}
    for task in suite.tasks:
        start = time.monotonic()
        paired = context if other is None else _with_answers(context, other.tasks[task.name])
        tasks[task.name] = run_task(task, items[task.name], model, paired)
        progress(f"{task.name}: {len(items[task.name])} items in {time.monotonic() - start:.1f} s")
    scores = ModelScores(model.info, tasks)
    del model
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return scores


def _with_answers(context: ScoreContext, other: TaskScores) -> ScoreContext:
    answers = {item.id: item.answers for item in other.items if item.answers}
    return dataclasses.replace(context, other_answers=answers)


def mark_contaminated(scores: ModelScores, flags: Mapping[str, list[bool]]) -> ModelScores:
    """Return the outcome of a model with the items marked that stand in its training data.

    Args:
        scores: Outcome of the model.
        flags: True for each such item, by task.
    """
    tasks = {}
    for name, task in scores.tasks.items():
        marked = zip(task.items, flags[name], strict=True)
        items = tuple(dataclasses.replace(item, contaminated=flag) for item, flag in marked)
        tasks[name] = dataclasses.replace(task, items=items)
    return ModelScores(scores.info, tasks)


def summarise_suite(
    suite: Suite,
    items: Mapping[str, list[Item]],
    model: ModelScores,
    against: ModelScores | None,
    seconds: float,
    contaminated: Mapping[str, list[bool]] | None = None,
) -> EvaluationResult:
    """Return values, intervals and paired comparisons of a suite.

    Args:
        suite: The suite.
        items: Items of each task.
        model: Outcome of the model.
        against: Outcome of the model that it is compared with.
        seconds: Duration of the evaluation.
        contaminated: True for each item that stands in the training data, by task; None if these
            are not known.
    """
    comparisons = {name: _compared(name, model, against) for name in model.tasks}
    comparisons = adjust_comparisons(comparisons)
    tasks = {}
    digests = []
    for task in suite.tasks:
        rows = items[task.name]
        digest = task_digest(task, [item.to_json() for item in rows])
        digests.append(digest)
        groups = None if task.group is None else [item.group for item in rows]
        outcome = model.tasks[task.name]
        flags = None if contaminated is None else contaminated[task.name]
        other = None if against is None else against.tasks[task.name]
        tasks[task.name] = TaskResult(
            digest=digest,
            items=len(rows),
            skipped=outcome.skipped,
            contaminated=None if flags is None else sum(flags),
            metrics=_summaries(outcome.metrics, groups, flags),
            against={} if other is None else _summaries(other.metrics, groups, flags),
            comparison=comparisons[task.name],
            against_skipped={} if other is None else other.skipped,
            facts=outcome.facts,
        )
    return EvaluationResult(
        suite=suite.suite,
        suite_digest=_combined(suite.digest, digests),
        model=model.info,
        against=None if against is None else against.info,
        tasks=tasks,
        gates=decide_gates(suite.gates, tasks),
        seconds=round(seconds, 1),
        created=time.strftime("%FT%TZ", time.gmtime()),
    )


def write_results(
    out: Path, result: EvaluationResult, model: ModelScores, against: ModelScores | None
) -> None:
    """Write `results.json` and the items of both models; the results last.

    Results of an earlier evaluation are removed first: a kill leaves no old results with new
    items, and tasks that the suite no longer has leave nothing.

    Args:
        out: Folder of the evaluation.
        result: The results.
        model: Outcome of the model.
        against: Outcome of the model that it is compared with.
    """
    (out / RESULTS).unlink(missing_ok=True)
    for folder in (out / ITEMS, out / AGAINST):
        shutil.rmtree(folder, ignore_errors=True)
    for scores, folder in ((model, out / ITEMS), (against, out / AGAINST / ITEMS)):
        if scores is None:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        for name, task in scores.tasks.items():
            write_whole(folder / f"{name}.jsonl", "".join(map(_line, task.items)))
    write_whole(out / RESULTS, result.to_json())


def _line(item: ItemResult) -> str:
    return json.dumps(dataclasses.asdict(item), ensure_ascii=False) + "\n"


def _compared(
    name: str, model: ModelScores, against: ModelScores | None
) -> dict[str, PairedResult]:
    if against is None:
        return {}
    other = against.tasks[name].metrics
    pairs = {
        metric_name: compare(metric, other[metric_name])
        for metric_name, metric in model.tasks[name].metrics.items()
        if metric_name in other
    }
    return {metric_name: pair for metric_name, pair in pairs.items() if pair is not None}


def _summaries(
    metrics: Mapping[str, TaskMetric], groups: Any, contaminated: list[bool] | None
) -> dict[str, MetricResult]:
    summaries = {
        name: summarise(metric, groups, contaminated=contaminated)
        for name, metric in metrics.items()
    }
    return {name: summary for name, summary in summaries.items() if summary is not None}


def _combined(suite: str, tasks: list[str]) -> str:
    return hashlib.sha256("\n".join([suite, *tasks]).encode()).hexdigest()
