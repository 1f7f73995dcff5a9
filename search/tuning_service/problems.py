"""Problems of a search that SageMaker's tuning service cannot run."""

from __future__ import annotations

from collections.abc import Iterator

from launch.resources import stages_of
from search.config import SearchSettings
from search.tuning_service.metrics import printed_metric, printed_paths
from search.tuning_service.request import MAX_CATEGORIES, is_listed
from training.config import Job, Pipeline
from training.config.types import NEVER
from training.errors import Problem

_MAX_RANGES = 30
_SHORTEST_S = 120


def service_problems(settings: SearchSettings, job: Job | Pipeline) -> Iterator[Problem]:
    """Yield what the tuning service cannot do; nothing for a search that does not use it.

    Args:
        settings: Settings of the search.
        job: The job.
    """
    if not settings.uses_service:
        if settings.warm_start is not None:
            yield Problem(
                "search.warm_start",
                f"is only used by SageMaker's tuning service, not by {settings.algorithm}",
                fix="Leave it out, or use algorithm sagemaker-bayesian",
            )
        return
    yield from _metric_problems(settings)
    yield from _space_problems(settings)
    yield from _stopping_problems(settings, job)
    for run in stages_of(job):
        if run.resources.spot:
            yield Problem(
                "resources.spot",
                "trials of the tuning service would share one address of checkpoints, so that an "
                "interrupted one could not resume",
                fix="Set it to false, or use algorithm tpe, whose trials resume",
            )
        if run.resources.training_plan and run.resources.fallback:
            yield Problem(
                "resources.training_plan",
                "cannot be combined with fallback instances in a tuning job",
                fix="Leave out one of them",
            )
        if run.resources.register_model:
            yield Problem(
                "resources.register_model",
                "trials of the tuning service register no model",
                fix="Leave it out, and register the best: temper register",
            )


def _metric_problems(settings: SearchSettings) -> Iterator[Problem]:
    metrics = {"search.objective.metric": settings.objective.metric}
    for index, gate in enumerate(settings.objective.gates):
        metrics[f"search.objective.gates.{index}.metric"] = gate.metric
    for key, metric in metrics.items():
        if printed_metric(metric) is None:
            yield Problem(
                key,
                "is not printed by the job, and the tuning service reads nothing but its log",
                metric,
                f"Use one of {', '.join(printed_paths())}, or algorithm tpe",
            )


def _space_problems(settings: SearchSettings) -> Iterator[Problem]:
    if len(settings.space) > _MAX_RANGES:
        message = f"has {len(settings.space)} keys; the tuning service takes {_MAX_RANGES}"
        yield Problem("search.space", message)
    for key, parameter in settings.space.items():
        if not is_listed(parameter, grid=settings.is_grid):
            continue
        count = len(parameter.grid or ())
        if count > MAX_CATEGORIES:
            yield Problem(
                f"search.space.{key}",
                f"has {count} values; the tuning service takes a list of {MAX_CATEGORIES}, and a "
                "range of integers or of any number",
                fix="Leave out step, or make it larger",
            )


def _stopping_problems(settings: SearchSettings, job: Job | Pipeline) -> Iterator[Problem]:
    hyperband = settings.algorithm == "sagemaker-hyperband"
    if settings.early_stopping in ("asha", "hyperband"):
        yield Problem(
            "search.early_stopping",
            "is not a rule of the tuning service, which has median",
            settings.early_stopping,
            "Use median, or algorithm sagemaker-hyperband",
        )
    elif hyperband and settings.early_stopping != "none":
        message = "sagemaker-hyperband ends trials itself"
        yield Problem("search.early_stopping", message, fix="Set it to none")
    last = list(stages_of(job))[-1]
    if hyperband and (last.evaluate.every == NEVER or evaluations(job, 1) is None):
        yield Problem(
            "search.algorithm",
            "sagemaker-hyperband compares evaluations during training, of which it must know the "
            "number",
            fix="Set evaluate.every to a number of steps or epochs, such as 50 steps",
        )
    if settings.max_time is not None and settings.max_time < _SHORTEST_S:
        message = "the tuning service needs two minutes or more"
        yield Problem("search.max_time", message, f"{settings.max_time:.0f}s")


def evaluations(job: Job | Pipeline, steps: int) -> int | None:
    """Return how often a job evaluates its held-out rows; None if that depends on the clock.

    Args:
        job: The job.
        steps: Its optimizer steps.
    """
    last = list(stages_of(job))[-1]
    every = last.evaluate.every
    if every.unit == "steps":
        return max(1, int(steps // every.value))
    if every.unit == "epochs":
        return max(1, int(last.train.num_train_epochs // every.value))
    return None
