"""Parameters of a platform in an emulated account, without the time that CDK needs to deploy it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

from emulator.environment import EmulatedEnvironment
from tests.unit.launch.fake_accounts import ACCOUNT, DEV, VALUES

Client = Callable[[str], Any]


def publish_platform(client: Client) -> None:
    """Create the buckets, keys and subnets of the platform, and publish its parameters."""
    for name in ("data", "runs", "models"):
        client("s3").create_bucket(Bucket=VALUES[f"buckets/{name}"])
    keys = [client("kms").create_key()["KeyMetadata"]["Arn"] for _ in range(2)]
    subnets = client("ec2").describe_subnets()["Subnets"][:2]
    values = {
        **VALUES,
        "keys/data": keys[0],
        "keys/models": keys[1],
        "network/subnets": ",".join(subnet["SubnetId"] for subnet in subnets),
    }
    for name, value in values.items():
        _publish(client, name, value)


def publish_pipelines(environment: EmulatedEnvironment) -> None:
    """Add what pipelines need: roles, images, a security group, and the function of their steps."""
    client = environment.service.client
    roles = {
        "training": "sagemaker.amazonaws.com",
        "processing": "sagemaker.amazonaws.com",
        "pipeline": "sagemaker.amazonaws.com",
        "retraining": "lambda.amazonaws.com",
    }
    for name, principal in roles.items():
        trust = {"Statement": [{"Principal": {"Service": principal}, "Action": "sts:AssumeRole"}]}
        role = f"{DEV.prefix}-{name}"
        client("iam").create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(trust))
        _publish(client, f"roles/{name}", f"arn:aws:iam::{ACCOUNT}:role/{role}")
    vpc = client("ec2").describe_subnets()["Subnets"][0]["VpcId"]
    group = client("ec2").create_security_group(GroupName="jobs", Description="jobs", VpcId=vpc)
    _publish(client, "network/security-groups", group["GroupId"])
    for image in ("gpu", "prepare"):
        client("ecr").create_repository(repositoryName=f"{DEV.prefix}/{image}")
        environment.promote_image(image)
    client("sagemaker").create_model_package_group(ModelPackageGroupName=f"{DEV.prefix}-models")
    function = client("lambda").create_function(
        FunctionName=f"{DEV.prefix}-pipeline-steps",
        Role=f"arn:aws:iam::{ACCOUNT}:role/{DEV.prefix}-retraining",
        Handler="handlers.retraining.step.handler",
        Runtime="python3.12",
        Timeout=60,
        Code={"ZipFile": _empty_archive()},
        Environment={"Variables": {"PROMOTION": ""}},
    )
    _publish(client, "pipelines/step-function", function["FunctionArn"])


def _publish(client: Client, name: str, value: str) -> None:
    client("ssm").put_parameter(
        Name=f"/{DEV.prefix}/{name}", Value=value, Type="String", Overwrite=True
    )


def _empty_archive() -> bytes:
    """Return an archive of no code: the emulator runs that of this checkout."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("empty", "")
    return archive.getvalue()
