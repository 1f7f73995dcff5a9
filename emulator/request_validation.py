"""Checks by which the service rejects a request, made against the emulated account."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from emulator.botocore_schema import validation_errors

Client = Callable[[str], Any]


class RequestRejected(Exception):  # noqa: N818 (a response of the service, not a program error)
    """Error response of the service.

    Args:
        code: Error code, such as `ValidationException`.
        message: Error message.
    """

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


def check_request(request: dict[str, Any], client: Client, quotas: Mapping[str, int]) -> None:
    """Raise if the service would reject a CreateTrainingJob request.

    Args:
        request: Parameters of the request.
        client: Returns the boto3 client of a service of the emulated account.
        quotas: Allowed number of instances by type; types that are missing are unlimited.

    Raises:
        RequestRejected: The service would reject the request.
    """
    if errors := validation_errors("sagemaker", "CreateTrainingJob", request):
        _reject(f"{len(errors)} validation error(s) detected: {'; '.join(errors)}")
    _check_resource_config(request, client)
    _check_stopping_condition(request)
    _check_account(request, client)
    _check_quota(request, quotas)


def _reject(message: str) -> None:
    raise RequestRejected("ValidationException", message)


def _instance_types(request: Mapping[str, Any]) -> list[str]:
    config = request["ResourceConfig"]
    if "InstancePreferences" in config:
        return [p["InstanceType"] for p in config["InstancePreferences"]]
    return [config["InstanceType"]]


def _check_resource_config(request: Mapping[str, Any], client: Client) -> None:
    config, spot = request["ResourceConfig"], request.get("EnableManagedSpotTraining", False)
    if "InstancePreferences" in config:
        excluded = [k for k in ("InstanceType", "InstanceGroups") if k in config]
        excluded += ["EnableManagedSpotTraining"] * spot
        if excluded:
            _reject(f"InstancePreferences cannot be combined with {', '.join(excluded)}")
    if spot and "KeepAlivePeriodInSeconds" in config:
        _reject("KeepAlivePeriodInSeconds is not supported with managed spot training")
    if "VolumeKmsKeyId" in config:
        for instance_type in _instance_types(request):
            if _has_local_storage(instance_type, client):
                _reject(
                    f"You can't request a VolumeKmsKeyId with {instance_type}, which has local "
                    "storage"
                )


def _has_local_storage(instance_type: str, client: Client) -> bool:
    """Return whether EC2, as moto has recorded it, describes local storage for a type."""
    try:
        answer = client("ec2").describe_instance_types(
            InstanceTypes=[instance_type.removeprefix("ml.")]
        )
    except ClientError:
        return False
    return bool(answer["InstanceTypes"][0].get("InstanceStorageSupported"))


def _check_stopping_condition(request: Mapping[str, Any]) -> None:
    limits, spot = request["StoppingCondition"], request.get("EnableManagedSpotTraining", False)
    max_runtime, wait = limits["MaxRuntimeInSeconds"], limits.get("MaxWaitTimeInSeconds")
    if max_runtime > 28 * 86400:
        _reject("MaxRuntimeInSeconds must be at most 2419200")
    if spot and (wait is None or wait < max_runtime):
        _reject("MaxWaitTimeInSeconds must be present and at least MaxRuntimeInSeconds")
    if not spot and wait is not None:
        _reject("MaxWaitTimeInSeconds is only supported with managed spot training")


def _check_account(request: Mapping[str, Any], client: Client) -> None:
    """Reject roles, keys, networks, images and buckets that do not exist."""
    role = request["RoleArn"].rpartition("/")[2]
    with _reject_missing(f"Could not assume role {request['RoleArn']}"):
        trust = client("iam").get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
        if "sagemaker.amazonaws.com" not in json.dumps(trust):
            _reject(f"Could not assume role {request['RoleArn']}: it does not trust SageMaker")
    keys = {
        request["OutputDataConfig"].get("KmsKeyId"),
        request["ResourceConfig"].get("VolumeKmsKeyId"),
    }
    # Listed, because moto cannot describe a key that CloudFormation created.
    existing = {key["KeyArn"] for key in client("kms").list_keys(Limit=1000)["Keys"]}
    if unknown := keys - {None} - existing:
        _reject(f"KMS key {', '.join(map(str, unknown))} cannot be used")
    if vpc := request.get("VpcConfig"):
        with _reject_missing(f"The VPC configuration is not valid: {vpc}"):
            client("ec2").describe_subnets(SubnetIds=vpc["Subnets"])
            client("ec2").describe_security_groups(GroupIds=vpc["SecurityGroupIds"])
    image = request["AlgorithmSpecification"]["TrainingImage"]
    if ".dkr.ecr." in image:
        repository, _, digest = image.partition("/")[2].partition("@")
        with _reject_missing(f"Cannot find requested image: {image}"):
            client("ecr").describe_images(
                repositoryName=repository, imageIds=[{"imageDigest": digest}]
            )
    output = request["OutputDataConfig"]["S3OutputPath"]
    with _reject_missing(f"The bucket of {output} cannot be reached"):
        client("s3").head_bucket(Bucket=output.removeprefix("s3://").partition("/")[0])


@contextmanager
def _reject_missing(message: str) -> Iterator[None]:
    """Convert a lookup error of the emulated account into the service's own rejection.

    Raises:
        RequestRejected: In place of a lookup error.
    """
    try:
        yield
    except ClientError as error:
        raise RequestRejected("ValidationException", f"{message} ({error})") from error


def _check_quota(request: Mapping[str, Any], quotas: Mapping[str, int]) -> None:
    instance_type = _instance_types(request)[0]
    count = int(request["ResourceConfig"].get("InstanceCount", 1))
    usage = "spot training job" if request.get("EnableManagedSpotTraining") else "training job"
    allowed = quotas.get(instance_type)
    if allowed is not None and count > allowed:
        raise RequestRejected(
            "ResourceLimitExceeded",
            f"The account-level service limit '{instance_type} for {usage} usage' is {allowed} "
            f"Instances, with current utilization of 0 Instances and a request delta of {count} "
            "Instances.",
        )
