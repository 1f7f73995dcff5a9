"""Judged sample of the traffic, on a control chart against the registered baseline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from evaluation.config.scores import LlmJudge
from evaluation.scores.base import AnsweredItem, ScoreContext
from monitoring.errors import WatchError
from monitoring.prompt_answer import PromptAnswer
from monitoring.statistics.control_chart import Baseline, ChartPoint, control_chart
from training.config.load import read_document
from training.errors import JobError, Problem
from training.run_folder import write_whole
from validation.error_messages import explain

_RATING = "judge_rating"


@dataclass(frozen=True)
class JudgedSample:
    """Ratings of a sample of each window.

    Attributes:
        baseline: The registered mean.
        scale: Best rating.
        points: Point of each window; None of one without a rating.
        ratings: Rating of each call that was judged, by window and place in it.
        spent_usd: What the judge cost.
    """

    baseline: Baseline
    scale: int
    points: Sequence[ChartPoint | None]
    ratings: Mapping[tuple[int, int], float]
    spent_usd: float


def read_single_judge(path: Path) -> LlmJudge:
    """Return the judge in a file: rubric, scale and judge of a score, as a suite has it.

    Raises:
        JobError: The file cannot be used; lists every problem.
    """
    document = read_document(path)
    if not isinstance(document, dict):
        raise JobError(str(path), [Problem("(file)", "a judge is a mapping: rubric, judge")])
    try:
        return LlmJudge.model_validate({**document, "kind": "judge", "mode": "single"})
    except ValidationError as error:
        raise JobError(str(path), explain(error, LlmJudge)) from None


def registered_baseline(
    model: str, evaluations: Sequence[Mapping[str, Any]], wanted: str | None
) -> Baseline:
    """Return the mean rating that was registered with a model.

    Args:
        model: Name of the model, for messages.
        evaluations: What is registered of its evaluations.
        wanted: `SUITE.TASK.METRIC`; the only rating by a judge if None.

    Raises:
        WatchError: There is none, or several.
    """
    known = {
        f"{one['suite']}.{name}": metric
        for one in evaluations
        for name, metric in one["metrics"].items()
        if wanted is not None or name.endswith(_RATING)
    }
    if wanted is not None:
        known = {name: metric for name, metric in known.items() if name == wanted}
    if not known:
        missing = wanted or "a rating by a judge (mode: single)"
        raise WatchError(
            f"{model} has no registered baseline: none of its evaluations has {missing}. Evaluate "
            f"it with a suite that has the same judge, then register it; or leave --judge out"
        )
    if len(known) > 1:
        raise WatchError(
            f"{model} has several ratings: {', '.join(sorted(known))}. Choose one with --baseline"
        )
    ((name, metric),) = known.items()
    return Baseline(
        name,
        float(metric["value"]),
        float(metric["low"]),
        float(metric["high"]),
        int(metric["items"]),
        bool(metric["higher_is_better"]),
    )


def save_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline, for a watch that does not have the registry."""
    write_whole(path, json.dumps(asdict(baseline), indent=1) + "\n")


def load_baseline(path: Path) -> Baseline:
    """Return the baseline in a file.

    Raises:
        WatchError: It is no baseline.
    """
    try:
        return Baseline(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise WatchError(
            f"{path} is no baseline that `temper watch` has written: {error}"
        ) from None


def judge_windows(
    section: LlmJudge,
    windows: Sequence[Sequence[PromptAnswer]],
    baseline: Baseline,
    count: int,
    context: ScoreContext,
) -> JudgedSample:
    """Return the ratings of the first answers of each window.

    Args:
        section: The judge.
        windows: Sampled pairs of each window, in the random order in which they were drawn.
        baseline: The registered mean.
        count: Answers of each window that are judged.
        context: Folder, cache and cost limit of the judge.

    Raises:
        RunError: The judge cannot be reached, or the cost limit is reached.
    """
    from evaluation.scores.judge import LlmJudgeScore

    places: list[tuple[int, int]] = []
    items: list[AnsweredItem] = []
    for number, window in enumerate(windows):
        answered = [place for place, one in enumerate(window) if one.answer]
        for place in answered[:count]:
            pair = window[place]
            places.append((number, place))
            items.append(
                AnsweredItem(f"{number}-{place}", {}, pair.prompt_text, (), (pair.answer or "",))
            )
    if not items:
        return JudgedSample(baseline, section.scale, [None] * len(windows), {}, 0.0)
    outcome = LlmJudgeScore(section, context).score(items)
    values = outcome.metrics[0].item_values
    assert values is not None
    ratings = {p: float(v) for p, v in zip(places, values, strict=True) if not np.isnan(v)}
    by_window: list[list[float]] = [[] for _ in windows]
    for (number, _), value in ratings.items():
        by_window[number].append(value)
    return JudgedSample(
        baseline,
        section.scale,
        control_chart([_mean(values) for values in by_window], baseline),
        ratings,
        float(outcome.facts.get("usd") or 0.0),
    )


def _mean(values: Sequence[float]) -> tuple[float, int] | None:
    return (float(np.mean(values)), len(values)) if values else None
