"""Section `search:` of a job file: space, objective, budget and algorithm."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from training.config.base import ConfigSection
from training.config.types import DurationS, MoneyUsd, PositiveInt

Value = str | int | float | bool | None
"""Value of a key of the job."""

_MAX_GRID = 10_000


class SearchParameter(ConfigSection):
    """Values that a key of the job can have: a range, or a list of choices."""

    low: int | float | None = None
    """Least value of a range. If `low`, `high` and `step` are integers, so are all values."""
    high: int | float | None = None
    """Greatest value of the range."""
    step: int | float | None = Field(default=None, gt=0)
    """Distance between neighbouring values; any value is possible if not set."""
    log: bool = False
    """Search the logarithm of the value, as for learning rates."""
    choices: tuple[Value, ...] | None = None
    """Values without an order."""

    @model_validator(mode="after")
    def _check(self) -> SearchParameter:
        if self.choices is not None:
            if (self.low, self.high, self.step, self.log) != (None, None, None, False):
                raise ValueError("has choices, or low and high, not both")
            if len(self.choices) < 2:
                raise ValueError("needs two choices or more: a key with one value is no search")
            if len({(type(choice), choice) for choice in self.choices}) < len(self.choices):
                raise ValueError("has a choice twice")
            return self
        if self.low is None or self.high is None:
            raise ValueError("needs choices: [a, b], or low and high")
        if not self.low < self.high:
            raise ValueError(f"low must be less than high, not {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs a low above 0, not {self.low}")
        if self.log and self.step is not None:
            raise ValueError("has log, or a step, not both")
        return self

    @property
    def is_integer(self) -> bool:
        """True if all values of the range are integers."""
        parts = (self.low, self.high, self.step if self.step is not None else 1)
        return all(isinstance(part, int) for part in parts)

    @property
    def grid(self) -> tuple[Value, ...] | None:
        """All values, in order; None for a range whose values cannot be listed."""
        if self.choices is not None:
            return self.choices
        assert self.low is not None and self.high is not None
        step = 1 if self.step is None and self.is_integer and not self.log else self.step
        if step is None:
            return None
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        return tuple(self.low + index * step for index in range(min(count, _MAX_GRID + 1)))


class ObjectiveGate(ConfigSection):
    """Limit of another metric, which a trial must keep to be chosen."""

    metric: str
    """Path of the metric in `evaluation.json`, such as `forgetting.change`."""
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _check(self) -> ObjectiveGate:
        if self.min is None and self.max is None:
            raise ValueError("needs min or max")
        return self

    def allows(self, value: float) -> bool:
        """Return whether a value is within the limits."""
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


class Objective(ConfigSection):
    """Metric that the search optimizes, as measured when a trial has been trained."""

    metric: str = "validation.loss"
    """Path of the metric in `evaluation.json` under `after`."""
    direction: Literal["minimize", "maximize"] = "minimize"
    gates: tuple[ObjectiveGate, ...] = ()


class WarmStart(ConfigSection):
    """Earlier tuning jobs of SageMaker whose training jobs a search starts from."""

    jobs: tuple[str, ...] = Field(min_length=1, max_length=5)
    """Names of finished tuning jobs."""
    kind: Literal["identical", "transfer"] = "identical"
    """`identical`: same data, image and keys. `transfer`: something has changed since."""


class PopulationSettings(ConfigSection):
    """Population of `pbt`."""

    size: int = Field(default=8, ge=2)
    """Number of members."""
    generations: int = Field(default=5, ge=2)
    """Parts into which `train.max_steps` is divided; members are compared between them."""
    exploit: float = Field(default=0.25, gt=0, le=0.5)
    """Share of the members, the worst ones, that continue from one of as many best ones."""


class SearchSettings(ConfigSection):
    """Settings of a search."""

    space: dict[str, SearchParameter]
    """Key of the job (`train.learning_rate`, `stages.align.adapter.r`) -> its values."""
    objective: Objective = Objective()
    algorithm: Literal[
        "tpe",
        "gp",
        "random",
        "grid",
        "pbt",
        "sagemaker-bayesian",
        "sagemaker-random",
        "sagemaker-hyperband",
        "sagemaker-grid",
    ] = "tpe"
    """`tpe`: tree-structured Parzen estimator (Bergstra et al. 2011). `gp`: Gaussian process with
    expected improvement. `random`. `grid`: every combination, in a random order.
    `pbt`: population-based training (arXiv:1711.09846). `sagemaker-...`: SageMaker's tuning service
    chooses the values and runs the trials."""
    early_stopping: Literal["none", "median", "asha", "hyperband"] = "none"
    """Rule that ends a trial by its held-out losses so far, compared with those of finished
    trials: worse than their median; successive halving (arXiv:1810.05934); Hyperband
    (arXiv:1603.06560)."""
    trials: PositiveInt = 20
    parallel: PositiveInt = 1
    """Trials that run at the same time."""
    max_time: DurationS | None = None
    """Time after which no trial starts and those in progress are stopped, such as 2h."""
    max_cost: MoneyUsd | None = None
    """Most that all trials and the runs with other seeds may cost together, such as 20 USD."""
    usd_per_hour: float | None = Field(default=None, gt=0)
    """Price of the machines of one trial for an hour; that of `resources.instance` if not set."""
    population: PopulationSettings = PopulationSettings()
    """Only with `pbt`."""
    warm_start: WarmStart | None = None
    """Earlier tuning jobs; only with `sagemaker-...`."""
    seeds: int = Field(default=2, ge=0)
    """Further seeds with which the best trial and the job as written are trained at the end."""
    seed: int = Field(default=0, ge=0)
    """Seed of the algorithm."""

    @model_validator(mode="before")
    @classmethod
    def _population_defaults(cls, settings: Any) -> Any:
        if isinstance(settings, dict) and settings.get("algorithm") == "pbt":
            return {"seeds": 0, **settings}
        return settings

    @field_validator("space")
    @classmethod
    def _not_empty(cls, space: dict[str, SearchParameter]) -> dict[str, SearchParameter]:
        if not space:
            raise ValueError("is empty: name a key and its values")
        return space

    @model_validator(mode="after")
    def _check(self) -> SearchSettings:
        if self.is_grid:
            unlisted = [key for key, parameter in self.space.items() if parameter.grid is None]
            if unlisted:
                raise ValueError(
                    f"algorithm {self.algorithm} needs choices or a step for {', '.join(unlisted)}"
                )
            if self.grid_size > _MAX_GRID:
                raise ValueError(f"the grid has more than {_MAX_GRID:,} combinations")
        if self.algorithm == "pbt":
            self._check_population()
        if self.early_stopping != "none" and self.objective.metric != "validation.loss":
            raise ValueError(
                "early_stopping compares held-out losses during training, so that the objective "
                f"must be validation.loss, not {self.objective.metric}"
            )
        return self

    def _check_population(self) -> None:
        if self.seeds:
            raise ValueError(
                "pbt finds a schedule together with its weights, which other seeds cannot repeat: "
                "set seeds to 0"
            )
        if "trials" in self.model_fields_set:
            raise ValueError("pbt has population.size × population.generations trials: no trials")
        if self.early_stopping != "none" or self.objective.metric != "validation.loss":
            raise ValueError(
                "pbt compares the held-out losses of its members: the objective must be "
                "validation.loss, and early_stopping none"
            )

    @property
    def round_size(self) -> int:
        """Trials that are suggested by the same results: those of a round or a generation."""
        return self.population.size if self.algorithm == "pbt" else self.parallel

    @property
    def grid_size(self) -> int:
        """Number of combinations of all values; only for spaces that can be listed."""
        return math.prod(len(parameter.grid or ()) for parameter in self.space.values())

    @property
    def num_trials(self) -> int:
        """Number of trials: `trials`, or those of the grid if they are fewer."""
        if self.algorithm == "pbt":
            return self.population.size * self.population.generations
        return min(self.trials, self.grid_size) if self.is_grid else self.trials

    @property
    def num_runs(self) -> int:
        """Number of runs: the trials of a population are parts of those of its members."""
        trained = self.population.size if self.algorithm == "pbt" else self.num_trials
        return trained + 2 * self.seeds

    @property
    def is_grid(self) -> bool:
        """True if the trials are all combinations of the values."""
        return self.algorithm in ("grid", "sagemaker-grid")

    @property
    def uses_service(self) -> bool:
        """True if SageMaker's tuning service chooses the values."""
        return self.algorithm.startswith("sagemaker-")
