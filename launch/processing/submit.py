"""Submission of a preparation as a processing job: quote, confirm, send at most once, attach."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from catalog.cpu_instances import CpuInstance, cpu_instances
from catalog.prices import price
from launch.aws.s3 import S3Uri
from launch.confirm import confirm
from launch.errors import LaunchError
from launch.job_inputs import InputArtifact
from launch.processing.jobs import RUNNING, ProcessingJobs, describe_end
from launch.processing.progress import progress_in_s3
from launch.processing.request import (
    IMAGE_KIND,
    INPUTS,
    JOB_INPUT,
    MAX_INPUTS,
    ProcessingInput,
    ProcessingResources,
    input_names,
    job_name,
    processing_request,
)
from launch.submission import current_user
from launch.targets.aws_target import AwsTarget
from training.errors import JobError, Problem

Print = Callable[[str], None]
FOLDER = "prepared"
_START_S = 300
"""Time until the containers run: machines, image, and a copy of the inputs."""
_SLOW_FACTOR = 3
_MIN_RUNTIME_S = 3600


class Estimate(Protocol):
    """Estimate of a preparation, from a sample of its rows."""

    @property
    def bytes(self) -> int:
        """Size of the sources."""

    def seconds(self, cores: int) -> float:
        """Return the duration on a number of cores."""

    def memory_gib(self, workers: int) -> float:
        """Return the memory of a number of workers on one machine."""

    def line(self, cores: int) -> str:
        """Return the estimate as text."""


@dataclass(frozen=True)
class ProcessingSubmission:
    """Preparation to submit.

    Attributes:
        data_set: Name of the data set.
        source: Name of the job file, for messages.
        inputs: Files and folders that it reads.
        job_text: Returns the job file for the container: paths in the order of the inputs, and the
            folder of the result.
        estimate: What it takes.
        nodes: Number of instances.
        instance: Instance type; None to choose the cheapest that is large enough.
    """

    data_set: str
    source: str
    inputs: Sequence[InputArtifact]
    job_text: Callable[[list[str], str], str]
    estimate: Estimate
    nodes: int = 1
    instance: str | None = None


class ProcessingTarget(AwsTarget):
    """Account in which preparations run as processing jobs.

    Args:
        account: Session of the environment's account.
    """

    @cached_property
    def _jobs(self) -> ProcessingJobs:
        return ProcessingJobs(self.account.client("sagemaker"))

    def submit(self, submission: ProcessingSubmission, print_line: Print) -> str:
        """Start a preparation after asking, or attach to the job that an earlier call started.

        Args:
            submission: The preparation.
            print_line: Prints a line to the user.

        Returns:
            The name of the processing job.

        Raises:
            TemperError: Nothing was started, or the message says otherwise.
        """
        self.account.caller()
        self._check(submission)
        output = f"s3://{self.platform['buckets/data']}/{FOLDER}"
        names = input_names(len(submission.inputs))
        paths = [
            f"{INPUTS}/{name}/{_base_name(artifact)}"
            for name, artifact in zip(names, submission.inputs, strict=True)
        ]
        text = submission.job_text(paths, output)
        digest = self._digest(submission, text)
        attempt, found = self._latest(submission, digest)
        if found is not None and found["ProcessingJobStatus"] in (*RUNNING, "Completed"):
            return self._attach(found, submission.data_set, print_line)
        if found is not None:
            ended = "was stopped" if found["ProcessingJobStatus"] == "Stopped" else "failed"
            print_line(f"{found['ProcessingJobName']} {ended}: {describe_end(found)}")
            attempt += 1
        name = job_name(self.account.environment.prefix, submission.data_set, digest, attempt)
        resources = self._resources(submission)
        for line in self._quote(submission, resources):
            print_line(line)
        confirm(f"Start {name}?")
        home = S3Uri(self.platform["buckets/data"], f"uploads/prepare/{digest[:24]}")
        self.store.put_text(text, home / "job.yaml")
        inputs = {JOB_INPUT: ProcessingInput(f"{home}/")}
        for key, artifact in zip(names, submission.inputs, strict=True):
            if artifact.path is None:
                folder = "" if artifact.base_name else _base_name(artifact)
                inputs[key] = ProcessingInput(artifact.s3_uri, folder)
                continue
            inputs[key] = ProcessingInput(str(self.upload(artifact)))
        request = processing_request(
            name,
            inputs,
            resources,
            self.platform,
            creator=current_user(),
            data_set=submission.data_set,
        )
        print_line(f"started {self._jobs.create(request)}")
        print_line("the same command shows its state, and where the data set is")
        where = f"{name} --env {self.account.environment.name}"
        print_line(f"temper logs {where} follows it; temper stop {where} stops it")
        return name

    def _check(self, submission: ProcessingSubmission) -> None:
        """Check what can be checked before anything is copied.

        Raises:
            LaunchError: The environment was deployed without processing jobs.
            JobError: The job has too many inputs, or names an unknown instance type.
        """
        environment = self.account.environment.name
        if self.platform.get("roles/processing") is None:
            raise LaunchError(
                f"the environment {environment} has no role of processing jobs. Add {IMAGE_KIND} "
                f"to images.kinds of environments/{environment}.yaml, deploy it, and publish the "
                f"image: temper publish-image {IMAGE_KIND} --env {environment}"
            )
        self.platform.image(IMAGE_KIND)
        bucket = self.platform["buckets/data"]
        problems = [
            Problem(
                artifact.key,
                f"the role of processing jobs reads the bucket {bucket} only",
                artifact.source,
                "Copy it there first (aws s3 sync), or prepare it with another --target",
            )
            for artifact in submission.inputs
            if artifact.path is None and S3Uri.parse(artifact.source).bucket != bucket
        ]
        if len(submission.inputs) >= MAX_INPUTS:
            fix = "Put files into one folder, and name the folder"
            message = f"a processing job has at most {MAX_INPUTS - 1} files and folders"
            problems.append(Problem("prepare.sources", message, str(len(submission.inputs)), fix))
        known = [f"ml.{name}" for name in cpu_instances()]
        if submission.instance is not None and submission.instance not in known:
            fix = f"Known are {', '.join(known)}"
            problems.append(Problem("--instance", "unknown type", submission.instance, fix))
        if problems:
            raise JobError(submission.source, problems)

    def _digest(self, submission: ProcessingSubmission, text: str) -> str:
        image = self.platform.image(IMAGE_KIND)
        content = [text, image, [artifact.digest for artifact in submission.inputs]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _latest(
        self, submission: ProcessingSubmission, digest: str
    ) -> tuple[int, dict[str, Any] | None]:
        """Return number and description of the latest attempt; (1, None) if there is none."""
        latest, attempt = None, 1
        prefix = self.account.environment.prefix
        while True:
            name = job_name(prefix, submission.data_set, digest, attempt)
            found = self._jobs.find(name)
            if found is None:
                return max(1, attempt - 1), latest
            latest, attempt = found, attempt + 1

    def _attach(self, job: dict[str, Any], data_set: str, print_line: Print) -> str:
        name, status = str(job["ProcessingJobName"]), job["ProcessingJobStatus"]
        if status == "Completed":
            print_line(f"{name} is complete already")
            for line in describe_end(job).splitlines():
                print_line(f"  {line}")
        else:
            bucket = self.platform["buckets/data"]
            progress = progress_in_s3(self.account.client("s3"), bucket, data_set)
            state = "running" if status == "InProgress" else "stopping"
            print_line(f"{name} is {state}: {progress or 'its machines start'}")
        return name

    def _resources(self, submission: ProcessingSubmission) -> ProcessingResources:
        instance = _choose_instance(submission)
        seconds = submission.estimate.seconds(instance.vcpus * submission.nodes)
        hours = self.platform.get("training/max-runtime-hours")
        limit = max(_MIN_RUNTIME_S, round(_SLOW_FACTOR * seconds) + _START_S)
        return ProcessingResources(
            instance=f"ml.{instance.name}",
            count=submission.nodes,
            volume_gib=2 * submission.estimate.bytes / 2**30 + 10,
            max_runtime_s=min(limit, int(hours) * 3600) if hours else limit,
        )

    def _quote(self, submission: ProcessingSubmission, resources: ProcessingResources) -> list[str]:
        instance = cpu_instances()[resources.instance.removeprefix("ml.")]
        cores = instance.vcpus * resources.count
        hours = (submission.estimate.seconds(cores) + _START_S) / 3600
        environment = self.account.environment
        known = price(resources.instance, environment.region)
        if known is None:
            cost = f"price of {resources.instance} unknown"
        else:
            total = hours * resources.count * known.on_demand_usd
            cost = f"about ${total:.2f} (${known.on_demand_usd:g} an hour, {known.date})"
        limit = resources.max_runtime_s / 3600
        return [
            f"{resources.count} × {resources.instance}, {environment.region} ({environment.name})",
            *(artifact.summary for artifact in submission.inputs),
            submission.estimate.line(cores),
            f"{hours * 60:.0f} min with the start of machines, {cost}; ended after {limit:.1f} h",
        ]


def _base_name(artifact: InputArtifact) -> str:
    """Return the name of a file or folder in its input, which is part of the data set's digest."""
    return artifact.base_name or artifact.source.rstrip("/").rpartition("/")[2]


def _choose_instance(submission: ProcessingSubmission) -> CpuInstance:
    """Return the named instance type, or the cheapest an hour that has the memory.

    Raises:
        JobError: No type has the memory.
    """
    catalog = cpu_instances()
    if submission.instance is not None:
        return catalog[submission.instance.removeprefix("ml.")]
    fitting = [
        instance
        for instance in catalog.values()
        if submission.estimate.memory_gib(instance.vcpus) <= 0.8 * instance.memory_gib
    ]
    if not fitting:
        need = submission.estimate.memory_gib(1)
        message = f"a worker needs {need:.0f} GiB, more than any known instance type has"
        raise JobError(submission.source, [Problem("prepare", message)])

    def total_cost(instance: CpuInstance) -> tuple[float, float]:
        seconds = submission.estimate.seconds(instance.vcpus * submission.nodes) + _START_S
        known = price(instance.name)
        hourly = known.on_demand_usd if known else float("inf")
        return seconds * hourly, seconds

    return min(fitting, key=total_cost)
