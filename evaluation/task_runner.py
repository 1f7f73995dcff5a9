"""One model on one task: requests, metrics, and the result of each item."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from evaluation.calibration import calibration_metrics
from evaluation.config.tasks import AnyTask, GenerationTask, MultipleChoice, Perplexity
from evaluation.conversation import converse
from evaluation.items import Item, Prompt
from evaluation.metric import TaskMetric, mean_metric, ratio
from evaluation.models.base import (
    EvaluatedModel,
    GeneratedAnswers,
    GenerationSettings,
    LogLikelihood,
    TooLong,
)
from evaluation.results import ItemResult
from evaluation.scores.base import AnsweredItem, ScoreContext, build_score


@dataclass(frozen=True)
class TaskScores:
    """Outcome of a model on a task.

    Attributes:
        metrics: Metrics, whose statistics are in the order of the items.
        items: Result of each item.
        facts: Findings about all items, such as the report of a classification.
    """

    metrics: dict[str, TaskMetric]
    items: tuple[ItemResult, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def skipped(self) -> dict[str, int]:
        """Number of items that were not scored, by reason."""
        return dict(Counter(item.skipped for item in self.items if item.skipped is not None))


def run_task(
    task: AnyTask, items: Sequence[Item], model: EvaluatedModel, context: ScoreContext
) -> TaskScores:
    """Return the outcome of a model on a task.

    Args:
        task: Section of the task.
        items: Its items.
        model: The model.
        context: Resources of the scores of generated answers.

    Raises:
        TemperError: The model or a score cannot be used.
    """
    if isinstance(task, MultipleChoice):
        return _run_multiple_choice(task, items, model)
    if isinstance(task, Perplexity):
        return _run_perplexity(items, model)
    return _run_generation(task, items, model, context)


def _run_multiple_choice(
    task: MultipleChoice, items: Sequence[Item], model: EvaluatedModel
) -> TaskScores:
    delimiter = len(task.target_delimiter)
    requests = [(item.prompt, choice) for item in items for choice in item.choices]
    outcomes = iter(model.log_likelihoods(requests))
    results: list[ItemResult] = []
    raw, normalized = np.full(len(items), np.nan), np.full(len(items), np.nan)
    nats: list[list[float] | None] = []
    for number, item in enumerate(items):
        scores = [next(outcomes) for _ in item.choices]
        known = [score for score in scores if isinstance(score, LogLikelihood)]
        if len(known) < len(scores):
            reason = next(score.reason for score in scores if isinstance(score, TooLong))
            results.append(_result(item, skipped=reason))
            nats.append(None)
            continue
        values = [score.nats for score in known]
        # Like lm-eval, count the characters of a choice without its delimiter.
        lengths = [max(1, len(choice) - delimiter) for choice in item.choices]
        best = int(np.argmax(values))
        best_normalized = int(np.argmax(np.array(values) / lengths))
        raw[number] = best == item.right
        normalized[number] = best_normalized == item.right
        nats.append(values)
        results.append(
            _result(
                item,
                answers=(item.choices[best][delimiter:],),
                prompt_tokens=known[0].context_tokens,
                scores={"accuracy": float(raw[number]), "accuracy_norm": float(normalized[number])},
                detail={
                    "log_likelihoods": [
                        list(pair) for pair in zip(item.choices, values, strict=True)
                    ],
                    "normalized_choice": item.choices[best_normalized][delimiter:],
                },
            )
        )
    metrics = [mean_metric("accuracy", raw), mean_metric("accuracy_norm", normalized)]
    metrics += calibration_metrics(nats, [item.right for item in items])
    return TaskScores({metric.name: metric for metric in metrics}, tuple(results))


def _run_perplexity(items: Sequence[Item], model: EvaluatedModel) -> TaskScores:
    texts = [str(item.prompt) for item in items]
    outcomes = model.text_log_likelihoods(texts)
    statistics, results = [], []
    for item, text, outcome in zip(items, texts, outcomes, strict=True):
        if isinstance(outcome, TooLong):
            statistics.append([0.0] * 4)
            results.append(_result(item, skipped=outcome.reason))
            continue
        # Words are counted as by lm-eval.
        size, words = len(text.encode("utf-8")), len(re.split(r"\s+", text))
        statistics.append([-outcome.nats, float(size), float(words), float(outcome.tokens)])
        bits = -outcome.nats / math.log(2) / size
        results.append(_result(item, prompt_tokens=outcome.tokens, scores={"bits_per_byte": bits}))
    table = np.array(statistics).reshape(-1, 4)
    values = np.array([result.scores.get("bits_per_byte", math.nan) for result in results])

    def per(column: int) -> Any:
        return lambda sums: ratio(sums[..., [0, column]])

    metrics = (
        TaskMetric(
            "bits_per_byte", "corpus", table, lambda s: per(1)(s) / math.log(2), False, values
        ),
        TaskMetric("byte_perplexity", "corpus", table, lambda s: np.exp(per(1)(s)), False),
        TaskMetric("word_perplexity", "corpus", table, lambda s: np.exp(per(2)(s)), False),
        TaskMetric("token_perplexity", "corpus", table, lambda s: np.exp(per(3)(s)), False),
    )
    return TaskScores({metric.name: metric for metric in metrics}, tuple(results))


def _run_generation(
    task: GenerationTask, items: Sequence[Item], model: EvaluatedModel, context: ScoreContext
) -> TaskScores:
    # Built first: a score that cannot be computed here is named before anything is generated.
    # The other model's answers are not compared with themselves.
    sections = [s for s in task.scores if not s.compares or context.other_answers is not None]
    scores = [build_score(section, context) for section in sections]
    settings = GenerationSettings(task.max_new_tokens, task.stop, task.samples, task.temperature)
    prompts, outcomes = converse(items, model, settings)
    answers = {
        number: outcome
        for number, outcome in enumerate(outcomes)
        if isinstance(outcome, GeneratedAnswers)
    }
    answered = [
        AnsweredItem(
            items[number].id,
            items[number].fields,
            prompt_text(prompts[number]),
            items[number].targets,
            outcome.texts,
        )
        for number, outcome in answers.items()
    ]
    rows = np.array(list(answers), dtype=np.intp)
    metrics: dict[str, TaskMetric] = {}
    detail: dict[int, dict[str, Any]] = {number: {} for number in answers}
    unscored: dict[int, str] = {}
    facts: dict[str, Any] = {}
    for section, score in zip(sections, scores, strict=True) if answered else ():
        outcome = score.score(answered)
        for metric in outcome.metrics:
            metrics[metric.name] = _spread(metric, rows, len(items))
        for number, found in zip(answers, outcome.details, strict=False):
            detail[number] |= found
        unscored |= {int(rows[index]): reason for index, reason in outcome.unscored.items()}
        if outcome.facts:
            facts[section.name or section.label] = outcome.facts
    results = []
    for number, answer in enumerate(outcomes):
        item = replace(items[number], prompt=prompts[number])
        if isinstance(answer, TooLong):
            results.append(_result(item, skipped=answer.reason))
            continue
        if any(answer.truncated):
            detail[number]["truncated"] = sum(answer.truncated)
        results.append(
            _result(
                item,
                answers=answer.texts,
                prompt_tokens=answer.prompt_tokens,
                scores=_values(metrics, number),
                detail=detail[number],
                skipped=unscored.get(number),
            )
        )
    return TaskScores(metrics, tuple(results), facts)


def _spread(metric: TaskMetric, rows: Any, items: int) -> TaskMetric:
    """Return a metric of the answered items as one of all items; the others are not scored."""
    statistics = np.zeros((items, metric.statistics.shape[1]))
    statistics[rows] = metric.statistics
    values = None
    if metric.item_values is not None:
        values = np.full(items, np.nan)
        values[rows] = metric.item_values
    return TaskMetric(
        metric.name, metric.kind, statistics, metric.value_of, metric.higher_is_better, values
    )


def _values(metrics: dict[str, TaskMetric], number: int) -> dict[str, float]:
    values = {
        name: float(metric.item_values[number])
        for name, metric in metrics.items()
        if metric.item_values is not None
    }
    return {name: value for name, value in values.items() if not math.isnan(value)}


def _result(item: Item, **outcome: Any) -> ItemResult:
    return ItemResult(
        id=item.id,
        prompt=prompt_text(item.prompt),
        target=" | ".join(item.targets),
        group=item.group,
        **outcome,
    )


def prompt_text(prompt: Prompt) -> str:
    """Return a prompt as text; the turns of a conversation are named by their role."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)
