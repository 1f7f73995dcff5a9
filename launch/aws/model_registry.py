"""Versions in SageMaker's model registry, replaced by the addresses of their models in S3.

A training job with `ModelPackageConfig` (`resources.register_model`) creates a version of the
environment's model package group.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeModelPackage.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from launch.aws.session import explain_aws_errors
from launch.errors import LaunchError
from training.config import Job, Pipeline
from training.config.model import REGISTRY, in_registry

_APPROVED = "Approved"
_Run = TypeVar("_Run", bound=Job)


@dataclass(frozen=True)
class ModelVersion:
    """Version of a model in the registry.

    Attributes:
        arn: ARN of the model package.
        approval: Its `ModelApprovalStatus`.
        address: Address of its model in S3; a folder's ends in `/`.
    """

    arn: str
    approval: str
    address: str


def with_registered_models(job: Job | Pipeline, client: Any) -> Job | Pipeline:
    """Return the job with each version of the registry replaced by its model's address.

    Args:
        job: The job.
        client: boto3 client of `sagemaker`, in the Region of the job.

    Raises:
        LaunchError: There is no such version, or it is not approved and must be.
    """
    if isinstance(job, Pipeline):
        stages = tuple(_with_registered_model(stage, client) for stage in job.stages)
        return job.model_copy(update={"stages": stages})
    return _with_registered_model(job, client)


def _with_registered_model(job: _Run, client: Any) -> _Run:
    if not in_registry(job.model.source):
        return job
    needs_approval = job.model.approval == "required"
    version = find_version(client, job.model.source, approved=needs_approval)
    if needs_approval and version.approval != _APPROVED:
        raise LaunchError(
            f"model.source: {job.model.source} is {version.approval}, and model.approval is "
            f"required. A model approver approves it: `aws sagemaker update-model-package "
            f"--model-package-arn {version.arn} --model-approval-status {_APPROVED}`; "
            f"or set model.approval: none"
        )
    update = {"source": version.address, "model_package_arn": version.arn}
    return job.model_copy(update={"model": job.model.model_copy(update=update)})


def find_version(client: Any, source: str, *, approved: bool = True) -> ModelVersion:
    """Return the version that a job names.

    Args:
        client: boto3 client of `sagemaker`.
        source: `registry:GROUP/VERSION`, `registry:GROUP`, or an ARN. VERSION is the package's
            number, or `NAME@VERSION` or `NAME` of a registered model.
        approved: Without VERSION, whether the newest approved version is meant or the newest.

    Raises:
        LaunchError: There is none, or its model is not in S3.
    """
    arn = source
    if source.startswith(REGISTRY):
        group, _, number = source.removeprefix(REGISTRY).partition("/")
        arn = _arn_of(client, group, number, approved=approved)
    else:
        _check_region(client, source)
    with explain_aws_errors(f"model.source: {source}: reading the model registry"):
        description = client.describe_model_package(ModelPackageName=arn)
    status = description["ModelPackageStatus"]
    if status != "Completed":
        raise LaunchError(f"model.source: {source} has the status {status}, not Completed")
    approval = str(description.get("ModelApprovalStatus") or "without an approval status")
    return ModelVersion(description["ModelPackageArn"], approval, _address(description, source))


def _arn_of(client: Any, group: str, which: str, *, approved: bool) -> str:
    """Return the ARN of a version of a group.

    Args:
        client: boto3 client of `sagemaker`.
        group: Name of the model package group.
        which: Number of the package, `NAME@VERSION` or `NAME` of a registered model; the newest
            package of the group if empty.
        approved: Whether the newest must be approved.

    Raises:
        LaunchError: There is none.
    """
    exact = which.isdigit() or "@" in which
    known, found = [], []
    for version in _versions(client, group):
        text, approval = str(version.get("ModelPackageVersion")), version.get("ModelApprovalStatus")
        # `temper push-model` writes `NAME@VERSION` as the first word of the description.
        model = str(version.get("ModelPackageDescription", "")).partition(" ")[0]
        names = (text, model, model.partition("@")[0], "") if "@" in model else (text, "")
        if which in names and (exact or not approved or approval == _APPROVED):
            found.append(str(version["ModelPackageArn"]))
            if not exact:
                break
        known.append(f"{model} = {text} ({approval})" if "@" in model else f"{text} ({approval})")
    if found:
        return found[-1]  # of two packages of one version, the older one is the version
    listed = f"Its newest versions: {', '.join(known[:8])}" if known else "It has no version"
    wanted = f"version {which}" if exact else f"approved version {'of ' + which if which else ''}"
    raise LaunchError(
        f"model.source: the model package group {group} has no {wanted.strip()}. {listed}"
    )


def _versions(client: Any, group: str) -> Iterator[dict[str, Any]]:
    """Yield the versions of a group, newest first."""
    with explain_aws_errors(f"model.source: {REGISTRY}{group}: reading the model registry"):
        pages = client.get_paginator("list_model_packages").paginate(
            ModelPackageGroupName=group, SortBy="CreationTime", SortOrder="Descending"
        )
        for page in pages:
            yield from page["ModelPackageSummaryList"]


def _check_region(client: Any, arn: str) -> None:
    """Raise if a version is in another Region than the job, which reads S3 in its own.

    Raises:
        LaunchError: It is.
    """
    region = arn.split(":")[3]
    if region != client.meta.region_name:
        raise LaunchError(
            f"model.source: {arn} is in {region}, and this job runs in {client.meta.region_name}. "
            f"Copy the model to a bucket there, and name its s3:// address"
        )


def _address(description: Mapping[str, Any], source: str) -> str:
    """Return the address of a version's model.

    Raises:
        LaunchError: It has several models, or none in S3.
    """
    inference = description.get("InferenceSpecification") or {}
    training = description.get("SourceAlgorithmSpecification") or {}
    parts = inference.get("Containers") or training.get("SourceAlgorithms") or []
    addresses = [address for part in parts if (address := _address_of(part))]
    if len(addresses) != 1 or not addresses[0].startswith("s3://"):
        listed = ", ".join(addresses) or "none"
        raise LaunchError(
            f"model.source: {source} must hold one model in S3, and holds: {listed}. Name the "
            f"s3:// address of the model instead"
        )
    return addresses[0]


def _address_of(part: Mapping[str, Any]) -> str:
    data = (part.get("ModelDataSource") or {}).get("S3DataSource") or {}
    address = str(data.get("S3Uri") or part.get("ModelDataUrl") or "")
    is_folder = data.get("S3DataType") == "S3Prefix" and not address.endswith("/")
    return f"{address}/" if is_folder else address
