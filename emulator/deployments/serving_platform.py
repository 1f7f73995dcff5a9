"""Parts of the platform that deployments need, for an environment without `serving`."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial

from botocore.exceptions import ClientError

from emulator.deployments.rehearsed_kinds import NAME, NOVA
from emulator.environment import EmulatedEnvironment
from emulator.moto_account import ACCOUNT

_IMAGES = ("serve", "serve-gpu")


def publish_serving(environment: EmulatedEnvironment) -> None:
    """Publish what endpoints need of the platform, unless the deployed platform has done so.

    An environment without `serving` lacks the role, the security group and the image of endpoints.
    """
    service, prefix = environment.service, environment.environment.prefix
    function = f"arn:aws:lambda:{service.region}:{ACCOUNT}:function:{prefix}"
    ssm, ec2 = service.client("ssm"), service.client("ec2")
    known = {
        parameter["Name"].removeprefix(f"/{prefix}/"): parameter["Value"]
        for page in ssm.get_paginator("get_parameters_by_path").paginate(
            Path=f"/{prefix}/", Recursive=True
        )
        for parameter in page["Parameters"]
    }
    group_arn = known["training/model-package-group"]
    with suppress(ClientError):  # moto's CloudFormation accepts the group, and creates none
        service.client("sagemaker").create_model_package_group(
            ModelPackageGroupName=group_arn.rpartition("/")[2]
        )
    for image in _IMAGES:
        if f"images/{image}/uri" not in known:
            service.client("ecr").create_repository(repositoryName=f"{prefix}/{image}")
            environment.promote_image(image)
    put = partial(ssm.put_parameter, Type="String")
    if "roles/bedrock-import" not in known:
        role = _create_role(environment, "bedrock-import", "bedrock.amazonaws.com")
        put(Name=f"/{prefix}/roles/bedrock-import", Value=role)
    if "roles/serving" in known:
        return
    subnet = known["network/subnets"].split(",")[0]
    vpc = ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["VpcId"]
    group = ec2.create_security_group(GroupName="serving", Description="serving", VpcId=vpc)
    values = {
        "roles/serving": _create_role(environment, "serving", "sagemaker.amazonaws.com"),
        "serving/security-group": group["GroupId"],
        "serving/undeploy-function": function,
    }
    for name, value in values.items():
        put(Name=f"/{prefix}/{name}", Value=value)


def _create_role(environment: EmulatedEnvironment, name: str, principal: str) -> str:
    """Create a role that a service may assume, and return its ARN."""
    trust = {"Statement": [{"Principal": {"Service": principal}, "Action": "sts:AssumeRole"}]}
    answer = environment.service.client("iam").create_role(
        RoleName=f"{environment.environment.prefix}-{name}",
        AssumeRolePolicyDocument=json.dumps(trust),
    )
    return str(answer["Role"]["Arn"])


def register_nova(environment: EmulatedEnvironment, version: str) -> None:
    """Register a version as SageMaker does after it has trained a model from Amazon Nova.

    Its files are those of the version of the run: SageMaker keeps the weights of Nova to itself.

    Args:
        environment: Emulated environment.
        version: Number of the version.
    """
    sagemaker = environment.service.client("sagemaker")
    for summary in sagemaker.list_model_packages(
        ModelPackageGroupName=f"{environment.environment.prefix}-models"
    )["ModelPackageSummaryList"]:
        package = sagemaker.describe_model_package(ModelPackageName=summary["ModelPackageArn"])
        properties = package["CustomerMetadataProperties"]
        if (properties["temper-name"], properties["temper-version"]) == (NAME, version):
            (container,) = package["InferenceSpecification"]["Containers"]
            base = {"HubContentName": "nova-textgeneration-lite", "HubContentVersion": "1.0.0"}
            sagemaker.create_model_package(
                ModelPackageGroupName=package["ModelPackageGroupName"],
                ModelPackageDescription=f"{NOVA}@{version}",
                InferenceSpecification={
                    **package["InferenceSpecification"],
                    "Containers": [{**container, "BaseModel": base}],
                },
                CustomerMetadataProperties={**properties, "temper-name": NOVA},
                ModelApprovalStatus="Approved",
            )
