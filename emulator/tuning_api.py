"""Emulated operations on tuning jobs: create, describe, stop, list their training jobs.

Values are drawn at random from the ranges, whatever the strategy is, and each training job really
runs. Early stopping, warm starts' knowledge and Hyperband's brackets are not emulated; their rules
for requests are.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateHyperParameterTuningJob.html
"""

from __future__ import annotations

import itertools
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from emulator.botocore_schema import validation_errors
from emulator.job_lifecycle import EmulatedTrainingJob
from emulator.request_validation import RequestRejected, reject
from emulator.serverless_job import EmulatedServerlessJob

_TICK_S = 0.05
_MAX_JOBS = 500


class TuningApi:
    """Tuning jobs of the emulated service.

    Args:
        create_training_job: Handler of CreateTrainingJob.
        training_job: Returns the training job of a name.
        arn_prefix: ARN of a tuning job without its name.
    """

    def __init__(
        self,
        create_training_job: Callable[[dict[str, Any]], Any],
        training_job: Callable[[str], EmulatedTrainingJob | EmulatedServerlessJob],
        arn_prefix: str,
    ):
        self._create_training_job, self._training_job = create_training_job, training_job
        self._arn_prefix = arn_prefix
        self._jobs: dict[str, EmulatedTuningJob] = {}

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """Check a request and start its job.

        Raises:
            RequestRejected: The service would reject the request.
        """
        check_tuning_request(request, self._jobs)
        name = request["HyperParameterTuningJobName"]
        if name in self._jobs:
            raise RequestRejected("ResourceInUse", f"Tuning job {name} exists already")
        arn = self._arn_prefix + name
        job = EmulatedTuningJob(request, arn, self._create_training_job, self._training_job)
        self._jobs[name] = job
        job.start()
        return {"HyperParameterTuningJobArn": arn}

    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a job."""
        return self._job(request).describe()

    def stop(self, request: dict[str, Any]) -> dict[str, Any]:
        """Stop a job and its training jobs."""
        self._job(request).stop()
        return {}

    def list_training_jobs(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a page of a job's training jobs, the oldest first."""
        summaries = list(self._job(request).summaries())
        start, size = int(request.get("NextToken", 0)), int(request.get("MaxResults", 10))
        page: dict[str, Any] = {"TrainingJobSummaries": summaries[start : start + size]}
        if start + size < len(summaries):
            page["NextToken"] = str(start + size)
        return page

    def close(self) -> None:
        """Stop all jobs and forget them."""
        for job in self._jobs.values():
            job.stop()
        for job in self._jobs.values():
            job.join()
        self._jobs.clear()

    def _job(self, request: dict[str, Any]) -> EmulatedTuningJob:
        name = request["HyperParameterTuningJobName"]
        if name not in self._jobs:
            raise RequestRejected("ResourceNotFound", f"Tuning job {name} could not be found")
        return self._jobs[name]


class EmulatedTuningJob:
    """Tuning job that runs in a thread.

    Args:
        request: Accepted request.
        arn: ARN of the job.
        create_training_job: Handler of CreateTrainingJob.
        training_job: Returns the training job of a name.
    """

    def __init__(
        self,
        request: dict[str, Any],
        arn: str,
        create_training_job: Callable[[dict[str, Any]], Any],
        training_job: Callable[[str], EmulatedTrainingJob | EmulatedServerlessJob],
    ):
        self._request, self._arn = request, arn
        self._create_training_job, self._training_job = create_training_job, training_job
        self._config = request["HyperParameterTuningJobConfig"]
        self._trained: dict[str, dict[str, str]] = {}
        self._status, self._reason = "InProgress", ""
        self._created = time.time()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start the job's thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the job and its training jobs."""
        self._stopping.set()

    def join(self) -> None:
        """Wait for the end of the job."""
        self._thread.join(60)

    def describe(self) -> dict[str, Any]:
        """Return the job as DescribeHyperParameterTuningJob does."""
        summaries = list(self.summaries())
        statuses = [summary["TrainingJobStatus"] for summary in summaries]
        objectives = [s for s in summaries if "FinalHyperParameterTuningJobObjectiveMetric" in s]
        described: dict[str, Any] = {
            **{key: part for key, part in self._request.items() if key != "Tags"},
            "HyperParameterTuningJobArn": self._arn,
            "HyperParameterTuningJobStatus": self._status,
            "CreationTime": self._created,
            "TrainingJobStatusCounters": {
                "Completed": statuses.count("Completed"),
                "InProgress": statuses.count("InProgress") + statuses.count("Stopping"),
                "RetryableError": 0,
                "NonRetryableError": statuses.count("Failed"),
                "Stopped": statuses.count("Stopped"),
            },
            "ObjectiveStatusCounters": {
                "Succeeded": len(objectives),
                "Pending": len(summaries) - len(objectives),
                "Failed": 0,
            },
        }
        if objectives:
            described["BestTrainingJob"] = min(objectives, key=self._rank)
        return {**described, **({"FailureReason": self._reason} if self._reason else {})}

    def summaries(self) -> Iterator[dict[str, Any]]:
        """Yield the summaries of the training jobs, the oldest first."""
        objective = self._config["HyperParameterTuningJobObjective"]
        for name, values in list(self._trained.items()):
            job = self._training_job(name).describe()
            summary = {
                "TrainingJobName": name,
                "TrainingJobArn": job["TrainingJobArn"],
                "CreationTime": job["CreationTime"],
                "TrainingJobStatus": job["TrainingJobStatus"],
                "TunedHyperParameters": values,
                "ObjectiveStatus": "Pending",
            }
            for key in ("TrainingStartTime", "TrainingEndTime", "FailureReason"):
                if key in job:
                    summary[key] = job[key]
            metrics = {m["MetricName"]: m["Value"] for m in job["FinalMetricDataList"]}
            if objective["MetricName"] in metrics:
                summary["ObjectiveStatus"] = "Succeeded"
                summary["FinalHyperParameterTuningJobObjectiveMetric"] = {
                    **objective,
                    "Value": metrics[objective["MetricName"]],
                }
            yield summary

    def _rank(self, summary: dict[str, Any]) -> float:
        value = float(summary["FinalHyperParameterTuningJobObjectiveMetric"]["Value"])
        least = self._config["HyperParameterTuningJobObjective"]["Type"] == "Minimize"
        return value if least else -value

    def _run(self) -> None:
        try:
            self._run_training_jobs()
        except RequestRejected as error:
            self._status, self._reason = "Failed", str(error)

    def _run_training_jobs(self) -> None:
        limits = self._config["ResourceLimits"]
        running: list[str] = []
        for number, values in enumerate(self._points(), start=1):
            while len(running) >= limits["MaxParallelTrainingJobs"] and not self._stopping.is_set():
                running = self._still_running(running)
                time.sleep(_TICK_S)
            if self._stopping.is_set():
                break
            running.append(self._start_training_job(number, values))
        while running:
            if self._stopping.is_set():
                for name in running:
                    self._training_job(name).trigger("stop")
            running = self._still_running(running)
            time.sleep(_TICK_S)
        self._status = "Stopped" if self._stopping.is_set() else "Completed"

    def _still_running(self, names: list[str]) -> list[str]:
        return [name for name in names if not self._training_job(name).is_over]

    def _start_training_job(self, number: int, values: dict[str, str]) -> str:
        definition = dict(self._request["TrainingJobDefinition"])
        static = definition.pop("StaticHyperParameters", {})
        if resources := definition.pop("HyperParameterTuningResourceConfig", None):
            first = resources["InstanceConfigs"][0]
            definition["ResourceConfig"] = first
        name = f"{self._request['HyperParameterTuningJobName']}-{number:03d}-00000000"
        objective = self._config["HyperParameterTuningJobObjective"]["MetricName"]
        self._create_training_job(
            {
                **definition,
                "TrainingJobName": name,
                "HyperParameters": {**static, **values, "_tuning_objective_metric": objective},
                "Tags": self._request.get("Tags", []),
            }
        )
        self._trained[name] = values
        return name

    def _points(self) -> Iterator[dict[str, str]]:
        ranges = self._config["ParameterRanges"]
        listed = {r["Name"]: r["Values"] for r in ranges.get("CategoricalParameterRanges", ())}
        if self._config["Strategy"] == "Grid":
            for combination in itertools.product(*listed.values()):
                yield dict(zip(listed, combination, strict=True))
            return
        chance = random.Random(self._config.get("RandomSeed", 0))
        for _ in range(self._config["ResourceLimits"].get("MaxNumberOfTrainingJobs", 1)):
            point = {name: chance.choice(values) for name, values in listed.items()}
            for one in ranges.get("ContinuousParameterRanges", ()):
                point[one["Name"]] = repr(_draw(chance, one))
            for one in ranges.get("IntegerParameterRanges", ()):
                point[one["Name"]] = str(round(_draw(chance, one)))
            yield point


def check_tuning_request(request: dict[str, Any], jobs: dict[str, EmulatedTuningJob]) -> None:
    """Raise if the service would reject a CreateHyperParameterTuningJob request.

    Args:
        request: Parameters of the request.
        jobs: Existing tuning jobs.

    Raises:
        RequestRejected: The service would reject it.
    """
    if errors := validation_errors("sagemaker", "CreateHyperParameterTuningJob", request):
        reject(f"{len(errors)} validation error(s) detected: {'; '.join(errors)}")
    config, definition = request["HyperParameterTuningJobConfig"], request["TrainingJobDefinition"]
    _check_strategy(config)
    if config["ResourceLimits"].get("MaxNumberOfTrainingJobs", 1) > _MAX_JOBS:
        reject(f"MaxNumberOfTrainingJobs must be at most {_MAX_JOBS}")
    names = {m["Name"] for m in definition["AlgorithmSpecification"].get("MetricDefinitions", ())}
    if config["HyperParameterTuningJobObjective"]["MetricName"] not in names:
        reject("The objective metric must be one of the MetricDefinitions")
    if ("ResourceConfig" in definition) == ("HyperParameterTuningResourceConfig" in definition):
        reject("Give ResourceConfig or HyperParameterTuningResourceConfig")
    for parent in request.get("WarmStartConfig", {}).get("ParentHyperParameterTuningJobs", ()):
        name = parent["HyperParameterTuningJobName"]
        job = jobs[name].describe() if name in jobs else {}
        if job.get("HyperParameterTuningJobStatus") not in ("Completed", "Stopped"):
            reject(f"The parent tuning job {name} does not exist, or has not ended")


def _check_strategy(config: dict[str, Any]) -> None:
    limits, ranges, strategy = (
        config[key] for key in ("ResourceLimits", "ParameterRanges", "Strategy")
    )
    numeric = [key for key in ranges if key != "CategoricalParameterRanges" and ranges[key]]
    if strategy == "Grid" and (numeric or "MaxNumberOfTrainingJobs" in limits):
        reject("Grid takes categorical ranges only, and counts the training jobs itself")
    if strategy == "Hyperband":
        if config.get("TrainingJobEarlyStoppingType") == "Auto":
            reject("Hyperband has its own early stopping: set TrainingJobEarlyStoppingType to Off")
        if "StrategyConfig" not in config:
            reject("Hyperband needs StrategyConfig")


def _draw(chance: random.Random, parameter: dict[str, str]) -> float:
    low, high = float(parameter["MinValue"]), float(parameter["MaxValue"])
    if parameter.get("ScalingType") == "Logarithmic":
        return math.exp(chance.uniform(math.log(low), math.log(high)))
    return chance.uniform(low, high)
