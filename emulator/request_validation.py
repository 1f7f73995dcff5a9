"""Checks by which the service rejects a request, made against the emulated account."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from botocore.exceptions import ClientError

from emulator.botocore_schema import validation_errors
from emulator.moto_account import ACCOUNT

Client = Callable[[str], Any]


class RequestRejected(Exception):  # noqa: N818 (a response of the service, not a program error)
    """Error response of the service.

    Args:
        code: Error code, such as `ValidationException`.
        message: Error message.
        details: Further members of the error's shape.
    """

    def __init__(self, code: str, message: str, **details: Any):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.details = code, message, details


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
        reject(f"{len(errors)} validation error(s) detected: {'; '.join(errors)}")
    check_resource_config(request, client)
    _check_stopping_condition(request)
    _check_account(request, client)
    check_job_quota(request, quotas)


def reject(message: str) -> NoReturn:
    """Reject a request as invalid.

    Raises:
        RequestRejected: Always.
    """
    raise RequestRejected("ValidationException", message)


def _instance_types(request: Mapping[str, Any]) -> list[str]:
    config = request["ResourceConfig"]
    if "InstancePreferences" in config:
        return [p["InstanceType"] for p in config["InstancePreferences"]]
    return [config["InstanceType"]]


def check_resource_config(request: Mapping[str, Any], client: Client) -> None:
    """Reject a combination of instance settings that the service does not allow."""
    config, spot = request["ResourceConfig"], request.get("EnableManagedSpotTraining", False)
    if "InstancePreferences" in config:
        excluded = [k for k in ("InstanceType", "InstanceGroups") if k in config]
        excluded += ["EnableManagedSpotTraining"] * spot
        if excluded:
            reject(f"InstancePreferences cannot be combined with {', '.join(excluded)}")
    if spot and "KeepAlivePeriodInSeconds" in config:
        reject("KeepAlivePeriodInSeconds is not supported with managed spot training")
    if "VolumeKmsKeyId" in config:
        for instance_type in _instance_types(request):
            if has_local_storage(instance_type, client):
                reject(
                    f"You can't request a VolumeKmsKeyId with {instance_type}, which has local "
                    "storage"
                )


def has_local_storage(instance_type: str, client: Client) -> bool:
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
        reject("MaxRuntimeInSeconds must be at most 2419200")
    if spot and (wait is None or wait < max_runtime):
        reject("MaxWaitTimeInSeconds must be present and at least MaxRuntimeInSeconds")
    if not spot and wait is not None:
        reject("MaxWaitTimeInSeconds is only supported with managed spot training")


def _check_account(request: Mapping[str, Any], client: Client) -> None:
    """Reject roles, keys, networks, images and buckets that do not exist."""
    output = request["OutputDataConfig"]
    check_role(request["RoleArn"], client)
    check_keys([output.get("KmsKeyId"), request["ResourceConfig"].get("VolumeKmsKeyId")], client)
    check_network(request.get("VpcConfig"), client)
    check_image(request["AlgorithmSpecification"]["TrainingImage"], client)
    bucket = output["S3OutputPath"].removeprefix("s3://").partition("/")[0]
    with _reject_missing(f"The bucket of {output['S3OutputPath']} cannot be reached"):
        client("s3").head_bucket(Bucket=bucket)


def check_role(arn: str, client: Client, service: str = "sagemaker.amazonaws.com") -> None:
    """Reject a role that does not exist or does not trust a service.

    Args:
        arn: ARN of the role.
        client: Returns the boto3 client of a service of the emulated account.
        service: Principal of the service that assumes the role.
    """
    with _reject_missing(f"Could not assume role {arn}"):
        role = client("iam").get_role(RoleName=arn.rpartition("/")[2])["Role"]
        if service not in json.dumps(role["AssumeRolePolicyDocument"]):
            reject(f"Could not assume role {arn}: it does not trust {service}")


def check_function(arn: str, client: Client) -> None:
    """Reject a Lambda function that does not exist."""
    with _reject_missing(f"The Lambda function {arn} cannot be called"):
        client("lambda").get_function(FunctionName=arn)


def check_keys(keys: Iterable[str | None], client: Client) -> None:
    """Reject KMS keys that do not exist."""
    # Listed, because moto cannot describe a key that CloudFormation created.
    existing = {key["KeyArn"] for key in client("kms").list_keys(Limit=1000)["Keys"]}
    if unknown := set(keys) - {None} - existing:
        reject(f"KMS key {', '.join(map(str, unknown))} cannot be used")


def check_network(vpc: Mapping[str, Any] | None, client: Client) -> None:
    """Reject subnets and security groups that do not exist."""
    if vpc:
        with _reject_missing(f"The VPC configuration is not valid: {vpc}"):
            client("ec2").describe_subnets(SubnetIds=vpc["Subnets"])
            client("ec2").describe_security_groups(GroupIds=vpc["SecurityGroupIds"])


def check_image(image: str, client: Client) -> None:
    """Reject an image of the account's own ECR that does not exist."""
    registry, _, rest = image.partition("/")
    if ".dkr.ecr." not in registry or not registry.startswith(ACCOUNT):
        return
    name, _, digest = rest.partition("@")
    repository, _, tag = name.partition(":")
    wanted = {"imageDigest": digest} if digest else {"imageTag": tag or "latest"}
    with _reject_missing(f"Cannot find requested image: {image}"):
        client("ecr").describe_images(repositoryName=repository, imageIds=[wanted])


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


def check_job_quota(request: Mapping[str, Any], quotas: Mapping[str, int]) -> None:
    """Reject more instances than the quota of their type."""
    count = int(request["ResourceConfig"].get("InstanceCount", 1))
    usage = "spot training job" if request.get("EnableManagedSpotTraining") else "training job"
    check_quota(_instance_types(request)[0], count, usage, quotas)


def check_quota(instance_type: str, count: int, usage: str, quotas: Mapping[str, int]) -> None:
    """Reject more instances than a quota allows.

    Args:
        instance_type: Type of the instances.
        count: Number of instances.
        usage: What the quota counts, such as `training job`.
        quotas: Allowed number of instances by type; types that are missing are unlimited.

    Raises:
        RequestRejected: There are more.
    """
    allowed = quotas.get(instance_type)
    if allowed is not None and count > allowed:
        raise RequestRejected(
            "ResourceLimitExceeded",
            f"The account-level service limit '{instance_type} for {usage} usage' is {allowed} "
            f"Instances, with current utilization of 0 Instances and a request delta of {count} "
            "Instances.",
        )
