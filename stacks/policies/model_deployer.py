"""Permissions to deploy approved models, for people who neither register nor approve them.

Denials hold whatever else is attached to the role: endpoints need the platform's network, keys,
tags and instance types, and what is deployed is registered and approved by others.
"""

from collections.abc import Sequence

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from catalog.deployment_tags import DEPLOYMENT, ENDS
from stacks.policies.engineer import REGISTERED_MODELS
from stacks.policies.iam_statements import IamContext, allow, deny, read_bucket, read_key, use_key
from stacks.policies.serving import IMAGE_KINDS, SERVING_FILES
from stacks.settings.serving import ServingSection

KINDS = ("endpoint", "endpoint-config", "inference-component", "model", "transform-job")
CREATE = [
    "sagemaker:CreateEndpoint",
    "sagemaker:CreateEndpointConfig",
    "sagemaker:CreateInferenceComponent",
    "sagemaker:CreateModel",
    "sagemaker:CreateTransformJob",
]
# Actions that create resources billed by the hour.
BILLED = ["sagemaker:CreateEndpoint", "sagemaker:CreateInferenceComponent"]
WITH_INSTANCES = ["sagemaker:CreateEndpointConfig", "sagemaker:CreateTransformJob"]
THROUGHPUT = "bedrock:CreateProvisionedModelThroughput"
AUTOSCALING_ROLE = (
    "aws-service-role/sagemaker.application-autoscaling.amazonaws.com/"
    "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
)


def sagemaker_statements(
    context: IamContext, *, execution_role: iam.IRole
) -> list[iam.PolicyStatement]:
    """Return the permissions to create, change, call and delete endpoints of the environment.

    Args:
        context: Names and keys of the environment.
        execution_role: Role of the containers.
    """
    names = context.names
    ours = [names.arn("sagemaker", f"{kind}/{names.prefix}-*") for kind in KINDS]
    scaling = {"StringEquals": {"application-autoscaling:service-namespace": "sagemaker"}}
    targets = [names.arn("application-autoscaling", "scalable-target/*")]
    return [
        allow("Create", CREATE, ours),
        allow(
            "TagNew",
            ["sagemaker:AddTags"],
            ours,
            {"StringEquals": {"sagemaker:TaggingAction": [_name(action) for action in CREATE]}},
        ),
        # An end is moved by its tag. No other tag of what exists can be changed.
        allow(
            "MoveEnd",
            ["sagemaker:AddTags", "sagemaker:DeleteTags"],
            ours,
            {"ForAllValues:StringEquals": {"aws:TagKeys": list(ENDS)}},
        ),
        allow(
            "Change",
            [
                "sagemaker:DeleteEndpoint",
                "sagemaker:DeleteEndpointConfig",
                "sagemaker:DeleteInferenceComponent",
                "sagemaker:DeleteModel",
                "sagemaker:DescribeEndpoint",
                "sagemaker:DescribeEndpointConfig",
                "sagemaker:DescribeInferenceComponent",
                "sagemaker:DescribeModel",
                "sagemaker:DescribeTransformJob",
                "sagemaker:InvokeEndpoint",
                "sagemaker:InvokeEndpointAsync",
                "sagemaker:InvokeEndpointWithResponseStream",
                "sagemaker:ListTags",
                "sagemaker:StopTransformJob",
                "sagemaker:UpdateEndpoint",
                "sagemaker:UpdateEndpointWeightsAndCapacities",
                "sagemaker:UpdateInferenceComponent",
                "sagemaker:UpdateInferenceComponentRuntimeConfig",
            ],
            ours,
        ),
        allow(
            "Scale",
            [
                "application-autoscaling:DeleteScalingPolicy",
                "application-autoscaling:DeregisterScalableTarget",
                "application-autoscaling:PutScalingPolicy",
                "application-autoscaling:RegisterScalableTarget",
            ],
            targets,
            scaling,
        ),
        allow(
            "CreateScalingRole",
            ["iam:CreateServiceLinkedRole"],
            [f"arn:{Aws.PARTITION}:iam::{names.account}:role/{AUTOSCALING_ROLE}"],
        ),
        # Target tracking and rollbacks need alarms.
        allow(
            "Alarms",
            ["cloudwatch:DeleteAlarms", "cloudwatch:PutMetricAlarm"],
            [
                names.arn("cloudwatch", f"alarm:{names.prefix}-*"),
                names.arn("cloudwatch", "alarm:TargetTracking-*"),
            ],
        ),
        allow("SeeServingRole", ["iam:GetRole"], [execution_role.role_arn]),
        allow(
            "PassServingRole",
            ["iam:PassRole"],
            [execution_role.role_arn],
            {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        ),
    ]


def reading_statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return the permissions to read versions, their files, images, quotas, logs and metrics.

    Args:
        context: Names and keys of the environment.
    """
    names = context.names
    prefix = names.prefix
    files = f"{names.bucket_arn('runs')}/{SERVING_FILES}"
    return [
        allow(
            "ReadVersions",
            ["sagemaker:DescribeModelPackage", "sagemaker:DescribeModelPackageGroup"],
            [
                names.arn("sagemaker", f"model-package/{prefix}-models/*"),
                names.arn("sagemaker", f"model-package-group/{prefix}-models"),
            ],
        ),
        # Lists, quotas, prices and metrics support no resource.
        allow(
            "Look",
            [
                "application-autoscaling:DescribeScalableTargets",
                "application-autoscaling:DescribeScalingActivities",
                "application-autoscaling:DescribeScalingPolicies",
                "bedrock:GetModelInvocationLoggingConfiguration",
                "bedrock:ListCustomModelDeployments",
                "bedrock:ListCustomModels",
                "bedrock:ListImportedModels",
                "bedrock:ListModelImportJobs",
                "bedrock:ListProvisionedModelThroughputs",
                "cloudwatch:DescribeAlarms",
                "cloudwatch:GetMetricData",
                "pricing:GetProducts",
                "sagemaker:ListEndpointConfigs",
                "sagemaker:ListEndpoints",
                "sagemaker:ListInferenceComponents",
                "sagemaker:ListModelPackages",
                "sagemaker:ListModels",
                "sagemaker:ListTransformJobs",
                "servicequotas:GetServiceQuota",
                "servicequotas:ListServiceQuotas",
            ],
            ["*"],
        ),
        allow(
            "ReadParameters",
            ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath"],
            [names.arn("ssm", f"parameter/{prefix}/*"), names.arn("ssm", f"parameter/{prefix}")],
        ),
        *read_bucket(context, "models", REGISTERED_MODELS),
        read_key(context.models, "Models"),
        # Without it, S3 answers that a missing object is forbidden.
        allow("ListRuns", ["s3:ListBucket"], [names.bucket_arn("runs")]),
        # Inputs and outputs of asynchronous and batch inference.
        allow("ServingFiles", ["s3:GetObject", "s3:PutObject"], [files]),
        use_key(context.data, "Data"),
        allow(
            "ReadImages",
            ["ecr:BatchGetImage", "ecr:DescribeImages"],
            [names.arn("ecr", f"repository/{names.repository(kind)}") for kind in IMAGE_KINDS],
        ),
        allow(
            "ReadLogs",
            ["logs:DescribeLogStreams", "logs:FilterLogEvents", "logs:GetLogEvents"],
            [
                names.arn("logs", f"log-group:/aws/sagemaker/Endpoints/{prefix}-*"),
                names.arn("logs", f"log-group:/aws/sagemaker/InferenceComponents/{prefix}-*"),
                # Calls of Bedrock's models, which a watch compares with the training set.
                names.arn("logs", f"log-group:/temper/{prefix}/bedrock-invocations"),
                names.arn("logs", f"log-group:/temper/{prefix}/bedrock-invocations:*"),
            ],
        ),
    ]


def bedrock_statements(context: IamContext, *, import_role: iam.IRole) -> list[iam.PolicyStatement]:
    """Return the permissions to import models, and to deploy them on demand or by the hour.

    Args:
        context: Names and keys of the environment.
        import_role: Role with which Bedrock reads the models.
    """
    names = context.names
    tagged = {"StringEquals": {"aws:RequestTag/TemperPrefix": names.prefix}}
    ours = {"StringEquals": {"aws:ResourceTag/TemperPrefix": names.prefix}}
    throughput = names.arn("bedrock", "provisioned-model/*")
    custom = names.arn("bedrock", "custom-model/*")
    imported = [
        custom,
        names.arn("bedrock", "custom-model-deployment/*"),
        names.arn("bedrock", "imported-model/*"),
        names.arn("bedrock", "model-import-job/*"),
        names.arn("bedrock", "model-invocation-job/*"),
    ]
    return [
        # Starting an import supports no resource; PassRole restricts the role it reads with.
        allow("StartImport", ["bedrock:CreateCustomModel", "bedrock:CreateModelImportJob"], ["*"]),
        allow(
            "Imported",
            [
                "bedrock:CreateCustomModelDeployment",
                "bedrock:CreateModelInvocationJob",
                "bedrock:DeleteCustomModel",
                "bedrock:DeleteCustomModelDeployment",
                "bedrock:DeleteImportedModel",
                "bedrock:GetCustomModel",
                "bedrock:GetCustomModelDeployment",
                "bedrock:GetImportedModel",
                "bedrock:GetModelImportJob",
                "bedrock:GetModelInvocationJob",
                "bedrock:InvokeModel",
                "bedrock:InvokeModelWithResponseStream",
                "bedrock:ListTagsForResource",
                "bedrock:StopModelInvocationJob",
                "bedrock:TagResource",
            ],
            imported,
        ),
        allow("BuyThroughput", [THROUGHPUT], [custom], tagged),
        allow("TagThroughput", ["bedrock:TagResource"], [throughput], tagged),
        allow(
            "ChangeThroughput",
            [
                "bedrock:DeleteProvisionedModelThroughput",
                "bedrock:GetProvisionedModelThroughput",
                "bedrock:InvokeModel",
                "bedrock:ListTagsForResource",
                "bedrock:UpdateProvisionedModelThroughput",
            ],
            [throughput],
            ours,
        ),
        allow("RedirectThroughput", ["bedrock:UpdateProvisionedModelThroughput"], [custom]),
        allow(
            "PassImportRole",
            ["iam:PassRole"],
            [import_role.role_arn],
            {"StringEquals": {"iam:PassedToService": "bedrock.amazonaws.com"}},
        ),
    ]


def guardrail_statements(
    context: IamContext, settings: ServingSection
) -> list[iam.PolicyStatement]:
    """Return the denials of endpoints without tags, network isolation or the platform's keys.

    Args:
        context: Names and keys of the environment.
        settings: Settings with the allowed instance types.
    """
    denials = [
        deny(
            "NoRegisteringNorApproving",
            [
                "sagemaker:CreateModelPackage",
                "sagemaker:CreateTrainingJob",
                "sagemaker:UpdateModelPackage",
            ],
            ["*"],
        ),
        deny("NoModelFiles", ["s3:PutObject"], [f"{context.names.bucket_arn('models')}/*"]),
        deny(
            "NoUnnamedDeployment",
            [*BILLED, THROUGHPUT],
            ["*"],
            {"Null": {f"aws:RequestTag/{DEPLOYMENT}": "true"}},
        ),
        # Keys of one operator are combined by AND: none of the ends exists.
        deny(
            "NoDeploymentWithoutEnd",
            ["sagemaker:CreateEndpoint", THROUGHPUT],
            ["*"],
            {"Null": {f"aws:RequestTag/{tag}": "true" for tag in ENDS}},
        ),
        deny(
            "NoOtherEnvironment",
            [*BILLED, "sagemaker:CreateTransformJob"],
            ["*"],
            {"StringNotEquals": {"aws:RequestTag/Environment": context.environment}},
        ),
        deny(
            "NoNetworkOfItsOwn",
            ["sagemaker:CreateModel"],
            ["*"],
            {"BoolIfExists": {"sagemaker:NetworkIsolation": "false"}},
        ),
        deny(
            "NoModelOutsideVpc",
            ["sagemaker:CreateModel"],
            ["*"],
            {"Null": {"sagemaker:VpcSubnets": "true"}},
        ),
        *_instance_denials(settings),
    ]
    return denials


def _instance_denials(settings: ServingSection) -> list[iam.PolicyStatement]:
    if not (allowed := list(settings.allowed_instance_types)):
        return []
    types = "sagemaker:InstanceTypes"
    return [
        deny("NoOtherType", WITH_INSTANCES, ["*"], {"ForAnyValue:StringNotLike": {types: allowed}})
    ]


def subnet_statements(
    subnets: Sequence[str], group: str, context: IamContext
) -> list[iam.PolicyStatement]:
    """Return the denials of models in other subnets or with another security group.

    Args:
        subnets: Ids of the subnets.
        group: Id of the security group of endpoints.
        context: Names and keys of the environment.
    """
    volume = "sagemaker:VolumeKmsKeyArn"
    return [
        deny(
            "OnlyOurSubnets",
            ["sagemaker:CreateModel"],
            ["*"],
            {"ForAnyValue:StringNotEquals": {"sagemaker:VpcSubnets": list(subnets)}},
        ),
        deny(
            "OnlyOurGroup",
            ["sagemaker:CreateModel"],
            ["*"],
            {"ForAnyValue:StringNotEquals": {"sagemaker:VpcSecurityGroupIds": [group]}},
        ),
        # Without a key the volumes are encrypted with one that SageMaker owns; instances with local
        # disks accept none.
        deny(
            "NoForeignVolumeKey",
            WITH_INSTANCES,
            ["*"],
            {"Null": {volume: "false"}, "ArnNotEquals": {volume: [context.data.key_arn]}},
        ),
    ]


def _name(action: str) -> str:
    return action.removeprefix("sagemaker:")
