"""Permissions of people on call: what the runbooks say, and nothing that reads data or models."""

from collections.abc import Sequence

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from catalog.deployment_tags import ENDS
from stacks.policies.engineer import DESCRIBE_JOBS, JOB_KINDS, STOP_JOBS
from stacks.policies.iam_statements import IamContext, allow, deny
from stacks.policies.kms_actions import RESTORE
from stacks.policies.permissions_boundary import stop_policy_name

# Each is the action of a command in docs/runbooks/, and supports no resource.
WITHOUT_RESOURCE = [
    "application-autoscaling:DescribeScalingActivities",
    "bedrock:ListProvisionedModelThroughputs",
    "ce:GetCostAndUsage",
    "cloudtrail:LookupEvents",
    "cloudwatch:GetMetricData",
    "cloudwatch:GetMetricStatistics",
    "cloudwatch:ListMetrics",
    "ec2:DescribeSubnets",
    "ecr:GetRegistryScanningConfiguration",
    "events:ListRules",
    "fsx:DescribeDataRepositoryAssociations",
    "fsx:DescribeFileSystems",
    "lambda:ListFunctions",
    "logs:DescribeLogGroups",
    "rds:DescribeEvents",
    "sagemaker:ListEndpoints",
    "sagemaker:ListTrainingJobs",
    "sagemaker:ListTrainingPlans",
    "servicequotas:ListServiceQuotas",
    "sns:ListTopics",
    "sqs:ListQueues",
]
DATA_ACTIONS = [
    "bedrock:InvokeModel*",
    "ecr:BatchGetImage",
    "s3:DeleteObject*",
    "s3:GetObject*",
    "s3:PutObject*",
    "sagemaker:CreateHyperParameterTuningJob",
    "sagemaker:CreateProcessingJob",
    "sagemaker:CreateTrainingJob",
    "sagemaker:InvokeEndpoint*",
    "secretsmanager:GetSecretValue",
    "ssm:StartSession",
]


def reading_statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return the permissions to see jobs, clusters, endpoints, alarms, logs and costs."""
    arn, prefix = context.names.arn, context.names.prefix
    log_groups = [
        *(f"/aws/sagemaker/{kind}" for kind in ("TrainingJobs", "ProcessingJobs", "Endpoints/*")),
        "/aws/sagemaker/InferenceComponents/*",
        f"/aws/sagemaker/Clusters/{prefix}-cluster/*",
        f"/temper/{prefix}/*",
    ]
    return [
        allow("Look", WITHOUT_RESOURCE, ["*"]),
        allow("Alarms", ["cloudwatch:DescribeAlarms"], [arn("cloudwatch", "alarm:*")]),
        allow(
            "Jobs",
            DESCRIBE_JOBS,
            [arn("sagemaker", f"{kind}/{prefix}-*") for kind in JOB_KINDS],
        ),
        allow(
            "Capacity",
            [
                "sagemaker:DescribeCluster",
                "sagemaker:DescribeEndpoint",
                "sagemaker:DescribeTrainingPlan",
                "sagemaker:ListClusterEvents",
                "sagemaker:ListClusterNodes",
            ],
            [arn("sagemaker", f"{kind}/*") for kind in ("cluster", "endpoint", "training-plan")],
        ),
        # The groups of jobs are shared by all environments of the account.
        allow(
            "Logs",
            ["logs:DescribeLogStreams", "logs:FilterLogEvents", "logs:GetLogEvents"],
            [arn("logs", f"log-group:{group}{end}") for group in log_groups for end in ("", ":*")],
        ),
        allow(
            "Stacks",
            ["cloudformation:DescribeStackEvents", "cloudformation:DescribeStacks"],
            [arn("cloudformation", f"stack/{prefix}-*/*")],
        ),
        allow("Parameters", ["ssm:GetParameter"], [arn("ssm", f"parameter/{prefix}/*")]),
        allow(
            "Scans",
            ["ecr:DescribeImages", "ecr:DescribeImageScanFindings"],
            [arn("ecr", f"repository/{prefix}/*")],
        ),
        allow(
            "Builds",
            ["codebuild:BatchGetBuilds", "codebuild:ListBuildsForProject"],
            [arn("codebuild", f"project/{context.names.build_project}")],
        ),
        allow("Databases", ["rds:DescribeDBInstances"], [arn("rds", "db:*")]),
        allow("Recipients", ["sns:ListSubscriptionsByTopic"], [arn("sns", f"{prefix}-*")]),
        allow("Budgets", ["budgets:ViewBudget"], [arn("budgets", "budget/*", region="")]),
    ]


def acting_statements(
    context: IamContext, *, stopped_roles: Sequence[iam.IRole]
) -> list[iam.PolicyStatement]:
    """Return the permissions to stop, replace, restore and repeat, and the denial of data.

    Args:
        context: Names and keys of the environment.
        stopped_roles: Roles from which the stop of new jobs may be detached again.
    """
    names = context.names
    arn, prefix = names.arn, names.prefix
    ours = {"StringEquals": {"aws:ResourceTag/Environment": context.environment}}
    stop = f"arn:{Aws.PARTITION}:iam::{names.account}:policy/{stop_policy_name(names)}"
    kinds = ("endpoint", "inference-component")
    deployments = [arn("sagemaker", f"{kind}/{prefix}-*") for kind in kinds]
    return [
        allow(
            "StopJobs", STOP_JOBS, [arn("sagemaker", f"{kind}/{prefix}-*") for kind in JOB_KINDS]
        ),
        allow(
            "ReplaceNodes",
            ["sagemaker:BatchReplaceClusterNodes"],
            [arn("sagemaker", "cluster/*")],
            ours,
        ),
        allow(
            "ChangeEndpoints",
            ["sagemaker:UpdateEndpoint", "sagemaker:UpdateEndpointWeightsAndCapacities"],
            [arn("sagemaker", "endpoint/*"), arn("sagemaker", "endpoint-config/*")],
            ours,
        ),
        allow(
            "EndDeployments",
            [
                "sagemaker:DeleteEndpoint",
                "sagemaker:DeleteInferenceComponent",
                "sagemaker:DescribeInferenceComponent",
                "sagemaker:ListTags",
            ],
            deployments,
        ),
        allow(
            "MoveEnds",
            ["sagemaker:AddTags"],
            deployments,
            {"ForAllValues:StringEquals": {"aws:TagKeys": list(ENDS)}},
        ),
        allow(
            "EndThroughput",
            ["bedrock:DeleteProvisionedModelThroughput"],
            [arn("bedrock", "provisioned-model/*")],
            {"StringEquals": {"aws:ResourceTag/TemperPrefix": prefix}},
        ),
        # Undelivered messages are events and notifications.
        allow(
            "RepeatMessages",
            ["sqs:GetQueueAttributes", "sqs:PurgeQueue", "sqs:ReceiveMessage"],
            [arn("sqs", f"{prefix}-*")],
        ),
        allow(
            "ReadMessages",
            ["kms:Decrypt"],
            [context.messages.key_arn],
            {"StringEquals": {"kms:ViaService": f"sqs.{names.region}.{Aws.URL_SUFFIX}"}},
        ),
        allow("CallFunctions", ["lambda:InvokeFunction"], [arn("lambda", f"function:{prefix}-*")]),
        *_restoring_statements(context),
        allow(
            "ContinueRollback",
            ["cloudformation:ContinueUpdateRollback"],
            [arn("cloudformation", f"stack/{prefix}-*/*")],
        ),
        allow(
            "LiftStop",
            ["iam:DetachRolePolicy"],
            [role.role_arn for role in stopped_roles],
            {"ArnEquals": {"iam:PolicyARN": stop}},
        ),
        deny("NoDataNorModels", DATA_ACTIONS, ["*"]),
    ]


def _restoring_statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return the permissions to enable again what was disabled: keys, rules, alarms, recipients."""
    arn, prefix = context.names.arn, context.names.prefix
    keys = [key.key_arn for key in (context.data, context.models, context.logs, context.messages)]
    return [
        allow("RestoreKeys", RESTORE, keys),
        allow(
            "EnableAlarms",
            ["cloudwatch:EnableAlarmActions", "cloudwatch:SetAlarmState"],
            [arn("cloudwatch", f"alarm:{prefix}-*")],
        ),
        allow("EnableRules", ["events:EnableRule"], [arn("events", f"rule/{prefix}-*")]),
        allow("StartDatabase", ["rds:StartDBInstance"], [arn("rds", f"db:{prefix}-*")]),
        allow(
            "AddRecipients",
            ["sns:Subscribe"],
            [arn("sns", f"{prefix}-*")],
            {"StringEquals": {"sns:Protocol": "email"}},
        ),
    ]
