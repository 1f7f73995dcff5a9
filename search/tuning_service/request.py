"""CreateHyperParameterTuningJob request, as a pure function of the search and a training job.

The training job's request is that of `temper train`. A definition of a tuning job lacks some of its
members: the image starts with its default entry point, and values of the space arrive as
hyperparameters, which override the keys of the job of the same names.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateHyperParameterTuningJob.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from search.config import SearchParameter, SearchSettings, Value
from search.tuning_service.metrics import printed_metric

STRATEGIES = {
    "sagemaker-bayesian": "Bayesian",
    "sagemaker-random": "Random",
    "sagemaker-hyperband": "Hyperband",
    "sagemaker-grid": "Grid",
}
_LEFT_OUT = frozenset(
    {
        "TrainingJobName",
        "ProfilerConfig",
        "MlflowConfig",
        "Tags",
        # All training jobs of a tuning job would share one address.
        "CheckpointConfig",
    }
)
_WARM_START = {"identical": "IdenticalDataAndAlgorithm", "transfer": "TransferLearning"}
MAX_CATEGORIES = 30


def tuning_request(
    name: str,
    training_job: Mapping[str, Any],
    settings: SearchSettings,
    *,
    trials: int,
    evaluations: int,
) -> dict[str, Any]:
    """Return the CreateHyperParameterTuningJob request of a search.

    Args:
        name: Name of the tuning job.
        training_job: CreateTrainingJob request of the job as written.
        settings: Settings of the search.
        trials: Number of training jobs.
        evaluations: Number of held-out evaluations of a training job.
    """
    definition = {key: part for key, part in training_job.items() if key not in _LEFT_OUT}
    resources = dict(definition.pop("ResourceConfig"))
    if preferences := resources.pop("InstancePreferences", None):
        volume = resources.pop("VolumeSizeInGB")
        definition["HyperParameterTuningResourceConfig"] = {
            **resources,
            "AllocationStrategy": "Prioritized",
            "InstanceConfigs": [
                {
                    "InstanceType": preference["InstanceType"],
                    "InstanceCount": preference["InstanceCount"],
                    "VolumeSizeInGB": volume,
                }
                for preference in preferences
            ],
        }
    else:
        definition["ResourceConfig"] = resources
    request: dict[str, Any] = {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": _config(settings, trials, evaluations),
        "TrainingJobDefinition": definition,
        "Tags": list(training_job.get("Tags", ())),
    }
    if settings.warm_start is not None:
        request["WarmStartConfig"] = {
            "ParentHyperParameterTuningJobs": [
                {"HyperParameterTuningJobName": parent} for parent in settings.warm_start.jobs
            ],
            "WarmStartType": _WARM_START[settings.warm_start.kind],
        }
    return request


def _config(settings: SearchSettings, trials: int, evaluations: int) -> dict[str, Any]:
    limits: dict[str, int] = {"MaxParallelTrainingJobs": settings.parallel}
    if settings.algorithm != "sagemaker-grid":  # the service counts the combinations itself
        limits["MaxNumberOfTrainingJobs"] = trials
    if settings.max_time is not None:
        limits["MaxRuntimeInSeconds"] = int(settings.max_time)
    metric = printed_metric(settings.objective.metric)
    assert metric is not None, "checked before"
    config: dict[str, Any] = {
        "Strategy": STRATEGIES[settings.algorithm],
        "HyperParameterTuningJobObjective": {
            "Type": settings.objective.direction.capitalize(),
            "MetricName": metric,
        },
        "ResourceLimits": limits,
        "ParameterRanges": parameter_ranges(settings),
        "TrainingJobEarlyStoppingType": "Auto" if settings.early_stopping == "median" else "Off",
        "RandomSeed": settings.seed,
    }
    if settings.algorithm == "sagemaker-hyperband":
        resource = {"MinResource": 1, "MaxResource": evaluations}
        config["StrategyConfig"] = {"HyperbandStrategyConfig": resource}
    return config


def parameter_ranges(settings: SearchSettings) -> dict[str, Any]:
    """Return the space of a search as ranges of the service, whose values are texts."""
    ranges: dict[str, list[dict[str, Any]]] = {}
    for key, parameter in settings.space.items():
        kind, values = _range(parameter, grid=settings.algorithm == "sagemaker-grid")
        ranges.setdefault(f"{kind}ParameterRanges", []).append({"Name": key, **values})
    return ranges


def is_listed(parameter: SearchParameter, *, grid: bool) -> bool:
    """Return whether the service gets the values of a key as a list, and not as a range.

    Args:
        parameter: Values of the key.
        grid: The strategy is Grid, which takes lists only.
    """
    has_step = parameter.step is not None and not (parameter.is_integer and parameter.step == 1)
    return parameter.choices is not None or has_step or grid


def value_text(value: Value) -> str:
    """Return a value as the text that overrides a key of the job."""
    if isinstance(value, str):
        return value
    return str(yaml.safe_dump(value)).removesuffix("...\n").strip()


def _range(parameter: SearchParameter, *, grid: bool) -> tuple[str, dict[str, Any]]:
    if is_listed(parameter, grid=grid):
        return "Categorical", {"Values": [value_text(value) for value in parameter.grid or ()]}
    return "Integer" if parameter.is_integer else "Continuous", {
        "MinValue": str(parameter.low),
        "MaxValue": str(parameter.high),
        "ScalingType": "Logarithmic" if parameter.log else "Linear",
    }
