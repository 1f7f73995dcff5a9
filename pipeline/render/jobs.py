"""Steps of the definition that run jobs: preparation, training, evaluation."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from evaluation.challenger import NO_CHAMPION
from evaluation.config.suite import SUITE_FILE
from launch.aws.create_training_job import (
    INPUTS,
    JOB_CHANNEL,
    JOB_FILE,
    JobRequirements,
    create_request,
)
from launch.aws.platform_parameters import PlatformParameters
from launch.job_inputs import collect_inputs, hub_names, rewrite_paths
from launch.processing.request import INPUTS as PROCESSING_INPUTS
from launch.processing.request import (
    ProcessingContainer,
    ProcessingInput,
    ProcessingResources,
    input_names,
    processing_request,
)
from launch.processing.submit import FOLDER
from launch.resources import cloud_resources, stages_of
from launch.submission import Attempt, Submission
from pipeline.config import EvaluateStep, GateStep, PrepareStep, TrainStep
from pipeline.digests import digest_of
from pipeline.job_overrides import override_words
from pipeline.load import LoadedPipeline
from pipeline.render.definition import DECISIONS, RenderedStep
from pipeline.render.references import Reference, get, output_of, substitute
from preparation.config.load import load_preparation
from preparation.relocation import local_files, relocated
from training.config import load_job
from training.errors import JobError, Problem

_RUN = "PIPELINE-RUN"
"""Placeholder of the id of a run, which is a digest of what it reads."""
_MAX_RUNTIME_S = 86_400
_KEY_CHARACTERS = 12
_GATES = "gates.json"
_OUTPUT = "/opt/ml/processing/output"
_CACHE = {"Enabled": True, "ExpireAfter": "P365D"}
_RETRIES = {
    "ExceptionType": [
        "SageMaker.JOB_INTERNAL_ERROR",
        "SageMaker.CAPACITY_ERROR",
        "SageMaker.RESOURCE_LIMIT",
    ],
    "IntervalSeconds": 300,
    "BackoffRate": 2.0,
    "MaxAttempts": 4,
}
"""Errors that pass, and that Pipelines does not repeat unasked; the last retry is after 75 min."""


@dataclasses.dataclass(frozen=True)
class RenderContext:
    """Pipeline that is rendered for an environment.

    Attributes:
        pipeline: The pipeline.
        platform: Parameters of the environment.
        creator: Name of the user, for tags.
    """

    pipeline: LoadedPipeline
    platform: PlatformParameters
    creator: str

    @property
    def step_function(self) -> str:
        """ARN of the function of Lambda steps."""
        return self.platform["pipelines/step-function"]

    @property
    def package_group(self) -> str:
        """Name of the group of model packages."""
        return self.platform["training/model-package-group"].rpartition("/")[2]

    def key(self, *parts: str) -> str:
        """Return a key in the bucket of data, below the folder of the pipeline."""
        return "/".join(("pipelines", self.pipeline.spec.name, *parts))

    def uri(self, key: str) -> str:
        """Return the address of a key in the bucket of data."""
        return f"s3://{self.platform['buckets/data']}/{key}"

    def lambda_step(self, name: str, inputs: dict[str, Any], *outputs: str) -> dict[str, Any]:
        """Return a Lambda step of the platform's function.

        Args:
            name: Name of the step.
            inputs: What the function is given.
            outputs: Names of its outputs, which are texts.
        """
        return {
            "Name": name,
            "Type": "Lambda",
            "Arguments": inputs,
            "FunctionArn": self.step_function,
            "OutputParameters": [{"OutputName": one, "OutputType": "String"} for one in outputs],
        }


def prepare_steps(context: RenderContext, name: str, step: PrepareStep) -> RenderedStep:
    """Return the steps of a preparation: the job, and the address of the data set that it built.

    Args:
        context: The pipeline.
        name: Name of the step.
        step: The step.

    Raises:
        JobError: The job is invalid, or reads files of this machine.
    """
    path = context.pipeline.file(step.job)
    job = load_preparation(path, " ".join(override_words(step.set)))
    files = local_files(job)
    bucket = f"s3://{context.platform['buckets/data']}/"
    problems = [
        Problem(
            key,
            "a pipeline in AWS reads the bucket of data",
            value,
            f"Copy it there (aws s3 sync) and name its address, {bucket}…",
        )
        for value, (key, _) in files.items()
        if not value.startswith(bucket)
    ]
    if problems:
        raise JobError(str(path), problems)
    names = input_names(len(files))
    paths = {
        value: f"{PROCESSING_INPUTS}/{one}/{value.rstrip('/').rpartition('/')[2]}"
        for one, value in zip(names, files, strict=True)
    }
    text = relocated(job, paths, f"{bucket}{FOLDER}").encode()
    home = context.key("jobs", digest_of(text.decode())[:_KEY_CHARACTERS])
    inputs = {JOB_CHANNEL: ProcessingInput(f"{context.uri(home)}/")}
    for one, value in zip(names, files, strict=True):
        base = value.rstrip("/").rpartition("/")[2]
        inputs[one] = ProcessingInput(value, "" if "." in base else base)
    request = processing_request(
        "unused",
        inputs,
        ProcessingResources(step.instance, 1, step.volume_gib, _MAX_RUNTIME_S),
        context.platform,
        creator=context.creator,
        data_set=job.name,
    )
    built = context.lambda_step(
        f"{name}-output",
        {"action": "prepared", "message": get(f"Steps.{name}.ExitMessage")},
        *("folder", "digest"),
    )
    # Not cached: SageMaker compares addresses, and the same address can have new data. The
    # preparation itself compares their content.
    job_step = _job_step(name, "Processing", request)
    return RenderedStep((job_step, built), {f"{home}/job.yaml": text})


def train_steps(context: RenderContext, name: str, step: TrainStep) -> RenderedStep:
    """Return the step of a training, whose run is named by what it reads.

    The same data give the same arguments, for which SageMaker repeats no step.

    Args:
        context: The pipeline.
        name: Name of the step.
        step: The step.

    Raises:
        JobError: The job names no instance, or reads files of this machine.
    """
    path = context.pipeline.file(step.job)
    channels, made = _made_inputs(step)
    job = load_job(path, " ".join(override_words({**step.set, **step.cloud, **made})))
    inputs = [one for one in collect_inputs(job) if not one.source.startswith(INPUTS)]
    if local := [one for one in inputs if one.path is not None]:
        message, fix = "a pipeline in AWS reads addresses in S3", "Copy it there and name it"
        raise JobError(str(path), [Problem(one.key, message, one.source, fix) for one in local])
    text = rewrite_paths(
        job, inputs, lambda one: f"{INPUTS}/{one.channel}/{one.base_name}".rstrip("/")
    )
    digest = digest_of(text)[:_KEY_CHARACTERS]
    home = context.key("jobs", digest)
    resources = cloud_resources(job, str(path), "sagemaker")
    requirements = JobRequirements(
        channels={
            JOB_CHANNEL: f"{context.uri(home)}/",
            **{one.channel: one.s3_uri for one in inputs},
            **{channel: f"CHANNEL-{channel}" for channel in channels},
        },
        volume_gib=resources.volume_gib or JobRequirements().volume_gib,
        # Outputs of other steps are mounted in the container; they are not model ids of the Hub.
        needs_hub=any(not name.startswith(INPUTS) for name in hub_names(job)),
        mlflow=any(run.tracking.mlflow for run in stages_of(job)),
    )
    run = f"{job.name}/{digest}-{_RUN}" if step.data else f"{job.name}/{digest}"
    submission = Submission(
        folder=Path(),
        run=run,
        target="sagemaker",
        environment=context.platform.environment.name,
        creator=context.creator,
        created="",
        attempts=(Attempt("unused"),),
    )
    request = create_request(submission, requirements, resources, context.platform)
    references: dict[str, Reference] = {f"CHANNEL-{key}": one for key, one in channels.items()}
    request["Tags"] = [tag for tag in request["Tags"] if tag["Key"] != "temper:run"]
    request["Tags"].append({"Key": "temper:run", "Value": f"pipeline-{context.pipeline.spec.name}"})
    if step.data:
        references[_RUN] = output_of(f"{next(iter(step.data.values()))}-output", "digest")
    return RenderedStep(
        (_job_step(name, "Training", substitute(request, references), cached=True),),
        {f"{home}/{JOB_FILE}": text.encode()},
    )


def _made_inputs(step: TrainStep) -> tuple[dict[str, Reference], dict[str, str]]:
    """Return the channels that other steps fill, and the path of each key that names one."""
    channels: dict[str, Reference] = {}
    made: dict[str, str] = {}
    for key, other in step.data.items():
        channels[f"data-{other}"] = output_of(f"{other}-output", "folder")
        made[key] = f"{INPUTS}/data-{other}"
    for key, other in step.model.items():
        channels[f"model-{other}"] = model_of(other)
        made[key] = f"{INPUTS}/model-{other}"
    return channels, made


def evaluate_steps(context: RenderContext, name: str, step: EvaluateStep) -> RenderedStep:
    """Return the steps of an evaluation: the search for the version in production, and the job.

    Args:
        context: The pipeline.
        name: Name of the step.
        step: The step.

    Raises:
        JobError: The suite is not a folder.
    """
    files = _suite_files(context, name, step)
    home = context.key("suites", digest_of(list(map(str, files.items())))[:_KEY_CHARACTERS])
    objects = {f"{home}/{key}": content for key, content in files.items()}
    arguments = ["evaluate", f"{PROCESSING_INPUTS}/model", f"{PROCESSING_INPUTS}/suite"]
    arguments += ["--out", _OUTPUT, "--gates", f"{PROCESSING_INPUTS}/suite/{_GATES}"]
    inputs = {"model": ProcessingInput("MODEL"), "suite": ProcessingInput(f"{context.uri(home)}/")}
    references = {"MODEL": model_of(step.model)}
    steps: list[dict[str, Any]] = []
    if step.compares:
        nothing = context.key("no-champion")
        objects[f"{nothing}/{NO_CHAMPION}"] = b"No version is in production.\n"
        steps.append(_find_champion(context, name, step, f"{context.uri(nothing)}/"))
        references["CHAMPION"] = output_of(f"{name}-champion", "folder")
        inputs["champion"] = ProcessingInput("CHAMPION")
        arguments += ["--against", f"{PROCESSING_INPUTS}/champion"]
    place = f"s3://{context.platform['buckets/runs']}/{context.key('EXECUTION', name)}"
    references["EXECUTION"] = get("Execution.PipelineExecutionId")
    container = ProcessingContainer(
        "gpu", "roles/training", tuple(arguments), {"evaluation": (place, _OUTPUT)}
    )
    request = processing_request(
        "unused",
        inputs,
        ProcessingResources(step.instance, 1, step.volume_gib, _MAX_RUNTIME_S),
        context.platform,
        creator=context.creator,
        data_set=context.pipeline.spec.name,
        container=container,
    )
    # The addresses of the model, the suite and the version in production name their content; that
    # of another model may not.
    named = not step.against.startswith("s3://")
    job = _job_step(name, "Processing", substitute(request, references), cached=named)
    job["PropertyFiles"] = [
        {
            "PropertyFileName": DECISIONS,
            "OutputName": "evaluation",
            "FilePath": "decisions.json",
        }
    ]
    return RenderedStep((*steps, job), objects)


def _suite_files(context: RenderContext, name: str, step: EvaluateStep) -> dict[str, bytes]:
    """Return the files of a suite by path, and the conditions of the gates that read its results.

    Args:
        context: The pipeline.
        name: Name of the evaluation.
        step: The evaluation.

    Raises:
        JobError: The suite is not a folder.
    """
    suite = context.pipeline.file(step.suite)
    if not suite.is_dir():
        message = "is not a folder, and its data would stay behind"
        fix = f"Put it into a folder as {SUITE_FILE}, with its data, and name the folder"
        problem = Problem(f"steps.{name}.suite", message, step.suite, fix)
        raise JobError(str(context.pipeline.path), [problem])
    gates = {
        gate_name: gate.conditions.model_dump(mode="json", exclude_none=True)
        for gate_name, gate in context.pipeline.steps.items()
        if isinstance(gate, GateStep) and gate.evaluation == name
    }
    found = {one.relative_to(suite).as_posix(): one for one in sorted(suite.rglob("*"))}
    files = {path: one.read_bytes() for path, one in found.items() if one.is_file()}
    return {**files, _GATES: json.dumps(gates, indent=1).encode()}


def model_of(step: str) -> Reference:
    """Return the reference to the model of a training step."""
    return get(f"Steps.{step}.ModelArtifacts.S3ModelArtifacts")


def _find_champion(
    context: RenderContext, name: str, step: EvaluateStep, nothing: str
) -> dict[str, Any]:
    """Return the step that finds the files of the other model.

    Args:
        context: The pipeline.
        name: Name of the evaluation.
        step: The evaluation.
        nothing: Address of a folder without a model, for the first version.
    """
    inputs = {
        "action": "champion",
        "model": context.pipeline.spec.name,
        "address": step.against if step.against.startswith("s3://") else "",
        "nothing": nothing,
        "group": context.package_group,
    }
    return context.lambda_step(f"{name}-champion", inputs, "folder", "version")


def _job_step(
    name: str, kind: str, request: dict[str, Any], *, cached: bool = False
) -> dict[str, Any]:
    """Return a step whose arguments are a request without the name, which SageMaker chooses.

    Args:
        name: Name of the step.
        kind: Type of the step.
        request: The request.
        cached: Reuse the result of an execution with the same arguments.
    """
    arguments = {key: value for key, value in request.items() if not key.endswith("JobName")}
    step = {"Name": name, "Type": kind, "Arguments": arguments, "RetryPolicies": [dict(_RETRIES)]}
    if cached:
        step["CacheConfig"] = dict(_CACHE)
    return step
