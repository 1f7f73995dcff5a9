"""Population-based training: values that change while the members of a population train.

All members train to the same step. Each of the worst then continues from a copy of the weights and
the optimizer of one of the best, with values near its (Jaderberg et al. 2017, arXiv:1711.09846). A
trial is the part of a member's run between two such steps; generation g has the trials from
g * population on.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search.config import SearchParameter, SearchSettings, Value
from training.branching import BRANCH_FILE
from training.config import Job, Pipeline
from training.config.types import NEVER
from training.errors import Problem, RunError
from training.run_folder import resolved_yaml

_KEYS = frozenset({"train.learning_rate", "train.weight_decay", "train.max_grad_norm"})
_PREFIXES = ("train.adam_", "method.")
_FACTORS = (0.8, 1.25)
_RESAMPLE = 0.25
"""Chance that an explored value is drawn from the whole space."""
_NOT_COPIED = ("status.json", "job.yaml", "mlflow.json", "failure.json", "report.html", ".lock")


@dataclass(frozen=True)
class Suggestion:
    """Values of a trial, and the trial whose weights it continues.

    Attributes:
        values: The values.
        parent: Number of the trial; None for one that starts from scratch.
    """

    values: dict[str, Value]
    parent: int | None = None


def suggest_member(settings: SearchSettings, trials: Sequence[FrozenTrial]) -> Suggestion:
    """Return the next trial of a later generation, by the results of the one before.

    Args:
        settings: Settings of the search.
        trials: All trials so far, by number.

    Raises:
        RunError: All members have failed.
    """
    size = settings.population.size
    generation, member = divmod(len(trials), size)
    before = trials[(generation - 1) * size : generation * size]
    direction = 1 if settings.objective.direction == "minimize" else -1
    ranked = sorted(
        (trial for trial in before if trial.state == TrialState.COMPLETE),
        key=lambda trial: (direction * float(trial.value or 0.0), trial.number),
    )
    if not ranked:
        raise RunError(f"all {size} members of generation {generation - 1} failed")
    count = max(1, math.floor(settings.population.exploit * size))
    previous = before[member]
    # Failed members are replaced before those that are only worse.
    worst = [trial.number for trial in before if trial not in ranked]
    worst += [trial.number for trial in reversed(ranked[1:])][: max(0, count - len(worst))]
    if previous.number not in worst:
        return Suggestion(dict(previous.params), previous.number)
    chance = random.Random(f"{settings.seed} {len(trials)}")
    parent = chance.choice(ranked[:count])
    values = {
        key: _explore(parameter, parent.params[key], chance)
        for key, parameter in settings.space.items()
    }
    return Suggestion(values, parent.number)


def stop_step(settings: SearchSettings, job: Job | Pipeline, number: int) -> int | None:
    """Return the step after which a trial stops; None for the last generation.

    Args:
        settings: Settings of the search.
        job: The job.
        number: Number of the trial.
    """
    assert isinstance(job, Job) and job.train.max_steps is not None, "checked before"
    generation = number // settings.population.size + 1
    if generation >= settings.population.generations:
        return None
    return round(job.train.max_steps * generation / settings.population.generations)


def branch(parent: Path, folder: Path, job: Job | Pipeline) -> None:
    """Make the run folder of a trial, which continues the newest checkpoint of another.

    Args:
        parent: Run folder of that trial.
        folder: Run folder to make; nothing is done if it exists.
        job: Job of the trial.

    Raises:
        RunError: The other trial has no checkpoint.
    """
    if folder.exists():
        return
    checkpoints = sorted(parent.glob("checkpoints/checkpoint-*"), key=_step_of)
    if not checkpoints:
        raise RunError(f"{parent} has no checkpoint to continue from")
    building = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    for file in parent.iterdir():
        if file.is_file() and file.name not in _NOT_COPIED:
            shutil.copy2(file, building / file.name)
    # Files of a checkpoint are never changed, so that links are copies.
    newest = checkpoints[-1]
    shutil.copytree(newest, building / "checkpoints" / newest.name, copy_function=os.link)
    (building / "job.yaml").write_text(resolved_yaml(job))
    (building / "status.json").write_text(json.dumps({"state": "stopped"}))
    (building / BRANCH_FILE).write_text(json.dumps({"parent": parent.name}))
    building.rename(folder)


def schedule(
    settings: SearchSettings, job: Job | Pipeline, trials: Sequence[FrozenTrial], number: int
) -> list[dict[str, Any]]:
    """Return the values with which the weights of a trial were trained, by their steps.

    Args:
        settings: Settings of the search.
        job: The job.
        trials: All trials, by number.
        number: Number of the trial.
    """
    parts: list[dict[str, Any]] = []
    at: int | None = number
    while at is not None:
        trial = trials[at]
        to = stop_step(settings, job, at)
        parts.append({"trial": at, "to_step": to, "values": trial.params})
        at = trial.user_attrs.get("parent")
    return parts[::-1]


def population_problems(settings: SearchSettings, job: Job | Pipeline) -> Iterator[Problem]:
    """Yield why a job cannot be trained as a population; nothing for other searches.

    Args:
        settings: Settings of the search.
        job: The job.
    """
    if settings.algorithm != "pbt":
        return
    if isinstance(job, Pipeline):
        yield Problem("search.algorithm", "pbt trains jobs of one stage", fix="Use tpe")
        return
    fixed = [key for key in settings.space if key not in _KEYS and not key.startswith(_PREFIXES)]
    for key in fixed:
        yield Problem(
            f"search.space.{key}",
            "cannot change while the same weights are trained",
            fix=f"Use {', '.join(sorted(_KEYS))}, keys of train.adam_ or of method, or another "
            "algorithm",
        )
    if job.train.max_steps is None:
        fix = "Set train.max_steps in place of epochs"
        yield Problem("train.max_steps", "is needed by pbt, whose generations divide it", fix=fix)
    elif job.train.max_steps < settings.population.generations:
        message = f"is less than {settings.population.generations} generations"
        yield Problem("train.max_steps", message, str(job.train.max_steps))
    if job.train.early_stopping is not None or job.train.keeps_best:
        fix = "Leave out train.early_stopping, and set train.keep to last"
        yield Problem("train.keep", "pbt continues the last weights of its members", fix=fix)
    if job.sharding.zero or job.sharding.fsdp != "none":
        fix = "Set zero to 0 and fsdp to none, or use another algorithm"
        yield Problem("sharding", "pbt changes the optimizer of a run that is not sharded", fix=fix)
    if job.evaluate.every == NEVER and not job.data.validation.wanted:
        yield Problem("data.validation", "is needed by pbt", fix="Set {split: 5%}")


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _explore(parameter: SearchParameter, value: Value, chance: random.Random) -> Value:
    """Return a value near another one, or, sometimes, one drawn from the whole space."""
    resample, factor = chance.random() < _RESAMPLE, chance.choice(_FACTORS)
    if parameter.choices is not None:
        return chance.choice(parameter.choices) if resample else value
    low, high = parameter.low, parameter.high
    assert low is not None and high is not None and isinstance(value, int | float)
    number = float(value) * factor
    if resample:
        share = chance.random()
        number = low * (high / low) ** share if parameter.log else low + share * (high - low)
    number = min(max(number, low), high)
    if parameter.step is not None or parameter.is_integer:
        step = parameter.step or 1
        number = min(low + round((number - low) / step) * step, high)
    return round(number) if parameter.is_integer else float(number)
