"""Denials of ML engineers, which hold whatever else is attached to the role."""

import fnmatch

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from stacks.policies.engineer import CREATE_JOBS
from stacks.policies.iam_statements import IamContext, deny
from stacks.settings.training import DEFAULT_RUNTIME_HOURS, TrainingSettings

# These instances encrypt local disks in hardware, and SageMaker rejects a volume key for them.
# docs.aws.amazon.com/sagemaker/latest/APIReference/API_ResourceConfig.html
LOCAL_DISK = [
    "ml.g4dn.*", "ml.g5.*", "ml.g6*.*", "ml.g7*.*", "ml.p3dn.*", "ml.p4d*.*", "ml.p5*.*",
    "ml.p6*.*", "ml.r5d.*", "ml.trn*.*",
]  # fmt: skip


def has_local_disk(instance: str) -> bool:
    """Return whether an instance type encrypts its disks in hardware and accepts no key."""
    return any(fnmatch.fnmatch(instance, pattern) for pattern in LOCAL_DISK)


def guardrail_statements(
    context: IamContext, *, encrypt_traffic: bool
) -> list[iam.PolicyStatement]:
    """Return the denials of jobs without network, keys or encryption, and of covering tracks.

    Args:
        context: Names and keys of the environment.
        encrypt_traffic: Deny multi-host jobs without encrypted traffic between containers.
    """
    denials = [*_job_denials(context), *_platform_denials()]
    if encrypt_traffic:
        denials.append(
            deny(
                "NoPlainTraffic",
                CREATE_JOBS,
                ["*"],
                {"BoolIfExists": {"sagemaker:InterContainerTrafficEncryption": "false"}},
            )
        )
    return denials


def _job_denials(context: IamContext) -> list[iam.PolicyStatement]:
    keys = [context.data.key_arn, context.models.key_arn]
    volume = "sagemaker:VolumeKmsKeyArn"
    return [
        deny("NoJobOutsideVpc", CREATE_JOBS, ["*"], {"Null": {"sagemaker:VpcSubnets": "true"}}),
        deny(
            "NoJobWithoutGroups",
            CREATE_JOBS,
            ["*"],
            {"Null": {"sagemaker:VpcSecurityGroupIds": "true"}},
        ),
        deny(
            "NoJobWithoutOutputKey",
            CREATE_JOBS,
            ["*"],
            {"Null": {"sagemaker:OutputKmsKeyArn": "true"}},
        ),
        deny(
            "NoForeignOutputKey",
            CREATE_JOBS,
            ["*"],
            {"ArnNotEquals": {"sagemaker:OutputKmsKeyArn": keys}},
        ),
        deny(
            "NoPlainVolume",
            CREATE_JOBS,
            ["*"],
            {
                "Null": {volume: "true"},
                "ForAnyValue:StringNotLike": {"sagemaker:InstanceTypes": LOCAL_DISK},
            },
        ),
        # A shell in the container would act as the training role; no record would name the person.
        # docs.aws.amazon.com/sagemaker/latest/dg/train-remote-debugging.html
        deny(
            "NoRemoteShell",
            ["sagemaker:CreateTrainingJob", "sagemaker:UpdateTrainingJob"],
            ["*"],
            {"Bool": {"sagemaker:EnableRemoteDebug": "true"}},
        ),
    ]


def _platform_denials() -> list[iam.PolicyStatement]:
    return [
        deny(
            "NoTrace",
            [
                "cloudtrail:DeleteTrail",
                "cloudtrail:StopLogging",
                "cloudtrail:UpdateTrail",
                "logs:DeleteLogGroup",
                "logs:DeleteLogStream",
                "logs:DeleteRetentionPolicy",
                "logs:PutRetentionPolicy",
            ],
            ["*"],
        ),
        deny(
            "NoThroughputByHand",
            ["bedrock:CreateProvisionedModelThroughput"],
            [f"arn:{Aws.PARTITION}:bedrock:*:*:*"],
        ),
        deny(
            "NoKeyChanges",
            ["kms:DisableKey", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion"],
            ["*"],
        ),
    ]


def cost_statements(training: TrainingSettings) -> list[iam.PolicyStatement]:
    """Return the denials of jobs on other instance types, or longer, than the settings allow.

    IAM has a condition key for neither the number of instances nor that of jobs:
    docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemakerai.html
    """
    hours = training.max_runtime_hours
    runtime = "sagemaker:MaxRuntimeInSeconds"
    denials = [
        deny("NoLongJob", CREATE_JOBS, ["*"], {"NumericGreaterThan": {runtime: str(hours * 3600)}})
    ]
    if hours < DEFAULT_RUNTIME_HOURS:
        denials.append(
            deny("NoJobOfDefaultLength", CREATE_JOBS, ["*"], {"Null": {runtime: "true"}})
        )
    if allowed := list(training.allowed_instance_types):
        types = "sagemaker:InstanceTypes"
        denials += [
            deny(
                "NoOtherType", CREATE_JOBS, ["*"], {"ForAnyValue:StringNotLike": {types: allowed}}
            ),
            # `ForAnyValue` is false for a request without the key.
            deny("NoUnnamedType", CREATE_JOBS, ["*"], {"Null": {types: "true"}}),
        ]
    return denials
