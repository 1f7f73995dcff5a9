"""Model that an execution in AWS has registered: its run, brought to this machine with evidence."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.results import read_results
from launch.aws.create_training_job import JOB_CHANNEL, JOB_FILE
from launch.aws.model_output import download_folder, fetch_model
from launch.aws.platform_parameters import PlatformParameters
from launch.aws.restart import with_channel_addresses
from launch.aws.run_objects import fetch_run_files
from launch.aws.s3 import S3Store, S3Uri
from launch.aws.session import explain_aws_errors
from launch.errors import LaunchError
from launch.submission import Attempt, Submission, current_user, now
from training.run_folder import RunFolder

_PIPELINE, _EXECUTION = "temper-pipeline", "temper-pipeline-execution"
_STAGE = "temper-wanted-stage"


@dataclass(frozen=True)
class ExecutedModel:
    """Model package of an execution, and the jobs that made it.

    Attributes:
        package: ARN of the package.
        pipeline: Name of the pipeline, and of the model.
        stage: Stage that the pipeline file wants for it.
        training: Description of the training job.
        evaluations: Addresses of the results of its evaluations.
    """

    package: str
    pipeline: str
    stage: str
    training: Mapping[str, Any]
    evaluations: tuple[str, ...]

    @property
    def run(self) -> str:
        """Name of the run, as the training job has it."""
        return str(self.training["Environment"]["TEMPER_RUN"])


def find_executed_model(sagemaker: Any, package: str, prefix: str) -> ExecutedModel:
    """Return the model of a package, which the step of registration of an execution has created.

    Args:
        sagemaker: boto3 client of `sagemaker`.
        package: ARN of the package.
        prefix: Prefix of the environment.

    Raises:
        LaunchError: No execution created the package, or AWS refused.
    """
    with explain_aws_errors(f"reading {package}"):
        described = sagemaker.describe_model_package(ModelPackageName=package)
    found = described.get("CustomerMetadataProperties") or {}
    if _PIPELINE not in found or _EXECUTION not in found:
        raise LaunchError(
            f"{package} was not registered by an execution of a pipeline. "
            "`temper models --to sagemaker` lists the versions of `temper register`"
        )
    (container,) = described["InferenceSpecification"]["Containers"]
    address = container["ModelDataSource"]["S3DataSource"]["S3Uri"]
    root = package.partition(":model-package/")[0]
    execution = f"{root}:pipeline/{prefix}-{found[_PIPELINE]}/execution/{found[_EXECUTION]}"
    training, evaluations = None, []
    with explain_aws_errors(f"reading the steps of {execution}"):
        for kind, job in _jobs(sagemaker, execution):
            if kind == "training":
                trained = job.get("ModelArtifacts", {}).get("S3ModelArtifacts") == address
                training = job if trained else training
            elif address in _inputs(job):
                evaluations += _outputs(job)
    if training is None:
        raise LaunchError(f"no step of {execution} has trained {address}")
    stage = found.get(_STAGE, "candidate")
    return ExecutedModel(package, found[_PIPELINE], stage, training, tuple(evaluations))


def fetch_executed_model(
    model: ExecutedModel, s3: Any, platform: PlatformParameters, runs: Path
) -> Path:
    """Download the run of a model, with the results of its evaluations; return the run folder.

    A run that is already here is completed.

    Args:
        model: The model.
        s3: boto3 client of `s3`.
        platform: Parameters of the environment.
        runs: Folder of run folders.

    Raises:
        LaunchError: Its files cannot be read.
    """
    folder, store = runs / model.run, S3Store(s3)
    folder.mkdir(parents=True, exist_ok=True)
    submission = Submission(
        folder=folder,
        run=model.run,
        target="sagemaker",
        environment=platform.environment.name,
        creator=current_user(),
        created=now(),
        attempts=(Attempt(str(model.training["TrainingJobName"])),),
        adopted=True,
    )
    (folder / "job.yaml").write_text(_job_text(store, model.training), encoding="utf-8")
    fetch_run_files(store, submission, platform, checkpoints=False)
    if not any(RunFolder(folder).model.glob("*.safetensors")):
        fetch_model(store, model.training, folder, archive=False)
    for address in model.evaluations:
        _fetch_results(store, address, folder)
    RunFolder(folder).set_state("finished")
    return folder


def _job_text(store: S3Store, training: Mapping[str, Any]) -> str:
    """Return the job file of a training, with the S3 addresses of its inputs.

    Raises:
        LaunchError: It does not exist.
    """
    channels = {one["ChannelName"]: one for one in training["InputDataConfig"]}
    address = channels[JOB_CHANNEL]["DataSource"]["S3DataSource"]["S3Uri"]
    text = store.get_text(S3Uri.parse(f"{address.rstrip('/')}/{JOB_FILE}"))
    if text is None:
        raise LaunchError(f"{address} has no {JOB_FILE}")
    return with_channel_addresses(text, training)


def _fetch_results(store: S3Store, address: str, run: Path) -> None:
    """Download the results of an evaluation to `evaluation/SUITE` of a run.

    Raises:
        LaunchError: There are none.
    """
    partial = run / "evaluation" / ".fetching"
    if not download_folder(store, S3Uri.parse(f"{address.rstrip('/')}/"), partial):
        raise LaunchError(f"{address} has no results of an evaluation")
    to = run / "evaluation" / read_results(partial).suite
    shutil.rmtree(to, ignore_errors=True)
    partial.rename(to)


def _jobs(sagemaker: Any, execution: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the kind and the description of each job of an execution."""
    pages = sagemaker.get_paginator("list_pipeline_execution_steps").paginate(
        PipelineExecutionArn=execution
    )
    for page in pages:
        for step in page["PipelineExecutionSteps"]:
            for kind in ("training", "processing"):
                arn = step.get("Metadata", {}).get(f"{kind.title()}Job", {}).get("Arn")
                if arn:
                    name = {f"{kind.title()}JobName": arn.rpartition("/")[2]}
                    yield kind, getattr(sagemaker, f"describe_{kind}_job")(**name)


def _inputs(job: Mapping[str, Any]) -> list[str]:
    return [one.get("S3Input", {}).get("S3Uri", "") for one in job.get("ProcessingInputs", ())]


def _outputs(job: Mapping[str, Any]) -> list[str]:
    outputs = job.get("ProcessingOutputConfig", {}).get("Outputs", ())
    return [one["S3Output"]["S3Uri"] for one in outputs if "S3Output" in one]
