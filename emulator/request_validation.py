"""What the service refuses before a job begins, looked up in the emulated account."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from emulator.botocore_schema import faults

Client = Callable[[str], Any]


class Refusal(Exception):  # noqa: N818 (an answer of the service, not a fault of ours)
    """The service says no.

    Args:
        code: Its own name for why.
        message: For people.
    """

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


def check_request(request: dict[str, Any], client: Client, quotas: Mapping[str, int]) -> None:
    """Refuse what the service would refuse.

    Raises:
        Refusal: With what is wrong.
    """
    if found := faults("sagemaker", "CreateTrainingJob", request):
        _refuse(f"{len(found)} validation error(s) detected: {'; '.join(found)}")
    _check_machines(request, client)
    _check_limits(request)
    _check_account(request, client)
    _check_quota(request, quotas)


def _refuse(message: str) -> None:
    raise Refusal("ValidationException", message)


def _kinds(request: Mapping[str, Any]) -> list[str]:
    machines = request["ResourceConfig"]
    if "InstancePreferences" in machines:
        return [p["InstanceType"] for p in machines["InstancePreferences"]]
    return [machines["InstanceType"]]


def _check_machines(request: Mapping[str, Any], client: Client) -> None:
    machines, spot = request["ResourceConfig"], request.get("EnableManagedSpotTraining", False)
    if "InstancePreferences" in machines:
        excluded = [k for k in ("InstanceType", "InstanceGroups") if k in machines]
        excluded += ["EnableManagedSpotTraining"] * spot
        if excluded:
            _refuse(f"InstancePreferences cannot be combined with {', '.join(excluded)}")
    if spot and "KeepAlivePeriodInSeconds" in machines:
        _refuse("KeepAlivePeriodInSeconds is not supported with managed spot training")
    if "VolumeKmsKeyId" in machines:
        for kind in _kinds(request):
            if _brings_disks(kind, client):
                _refuse(f"You can't request a VolumeKmsKeyId with {kind}, which has local storage")


def _brings_disks(kind: str, client: Client) -> bool:
    """Whether EC2 says that a type has local storage, as recorded in the emulator."""
    try:
        answer = client("ec2").describe_instance_types(InstanceTypes=[kind.removeprefix("ml.")])
    except ClientError:
        return False
    return bool(answer["InstanceTypes"][0].get("InstanceStorageSupported"))


def _check_limits(request: Mapping[str, Any]) -> None:
    limits, spot = request["StoppingCondition"], request.get("EnableManagedSpotTraining", False)
    longest, wait = limits["MaxRuntimeInSeconds"], limits.get("MaxWaitTimeInSeconds")
    if longest > 28 * 86400:
        _refuse("MaxRuntimeInSeconds must be at most 2419200")
    if spot and (wait is None or wait < longest):
        _refuse("MaxWaitTimeInSeconds must be present and at least MaxRuntimeInSeconds")
    if not spot and wait is not None:
        _refuse("MaxWaitTimeInSeconds is only supported with managed spot training")


def _check_account(request: Mapping[str, Any], client: Client) -> None:
    """Refuse roles, keys, networks and images that are not there."""
    role = request["RoleArn"].rpartition("/")[2]
    with _missing(f"Could not assume role {request['RoleArn']}"):
        trust = client("iam").get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
        if "sagemaker.amazonaws.com" not in json.dumps(trust):
            _refuse(f"Could not assume role {request['RoleArn']}: it does not trust SageMaker")
    keys = {
        request["OutputDataConfig"].get("KmsKeyId"),
        request["ResourceConfig"].get("VolumeKmsKeyId"),
    }
    # Listed, because the emulator cannot describe a key that CloudFormation made.
    known = {key["KeyArn"] for key in client("kms").list_keys(Limit=1000)["Keys"]}
    if unknown := keys - {None} - known:
        _refuse(f"KMS key {', '.join(map(str, unknown))} cannot be used")
    if vpc := request.get("VpcConfig"):
        with _missing(f"The VPC configuration is not valid: {vpc}"):
            client("ec2").describe_subnets(SubnetIds=vpc["Subnets"])
            client("ec2").describe_security_groups(GroupIds=vpc["SecurityGroupIds"])
    image = request["AlgorithmSpecification"]["TrainingImage"]
    if ".dkr.ecr." in image:
        repository, _, digest = image.partition("/")[2].partition("@")
        with _missing(f"Cannot find requested image: {image}"):
            client("ecr").describe_images(
                repositoryName=repository, imageIds=[{"imageDigest": digest}]
            )
    for address in (request["OutputDataConfig"]["S3OutputPath"],):
        with _missing(f"The bucket of {address} cannot be reached"):
            client("s3").head_bucket(Bucket=address.removeprefix("s3://").partition("/")[0])


@contextmanager
def _missing(message: str) -> Iterator[None]:
    """Turn "no such thing" of the emulator into what the service says."""
    try:
        yield
    except ClientError as error:
        raise Refusal("ValidationException", f"{message} ({error})") from error


def _check_quota(request: Mapping[str, Any], quotas: Mapping[str, int]) -> None:
    kind = _kinds(request)[0]
    count = int(request["ResourceConfig"].get("InstanceCount", 1))
    usage = "spot training job" if request.get("EnableManagedSpotTraining") else "training job"
    allowed = quotas.get(kind)
    if allowed is not None and count > allowed:
        raise Refusal(
            "ResourceLimitExceeded",
            f"The account-level service limit '{kind} for {usage} usage' is {allowed} Instances, "
            f"with current utilization of 0 Instances and a request delta of {count} Instances.",
        )
