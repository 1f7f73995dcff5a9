"""Permissions of ML engineers: run jobs and import models, within denials that always hold."""

from collections.abc import Sequence

from aws_cdk import aws_iam as iam

from stacks.policies.iam_statements import (
    IamContext,
    allow,
    deny,
    grant_key,
    read_bucket,
    secret_arn,
    secret_names,
    use_key,
    write_bucket,
)
from stacks.settings.storage import StorageSettings

CREATE_JOBS = [
    "sagemaker:CreateHyperParameterTuningJob",
    "sagemaker:CreateProcessingJob",
    "sagemaker:CreateTrainingJob",
]
DESCRIBE_JOBS = [
    "sagemaker:DescribeHyperParameterTuningJob",
    "sagemaker:DescribeProcessingJob",
    "sagemaker:DescribeTrainingJob",
    "sagemaker:ListTrainingJobsForHyperParameterTuningJob",
]
STOP_JOBS = [
    "sagemaker:StopHyperParameterTuningJob",
    "sagemaker:StopProcessingJob",
    "sagemaker:StopTrainingJob",
]
JOB_LOG_GROUPS = ("TrainingJobs", "ProcessingJobs", "TransformJobs")
# Files of registered models, by digest; `temper push-model` writes them.
REGISTERED_MODELS = "registry/sha256/*"
JOB_KINDS = ("training-job", "processing-job", "hyper-parameter-tuning-job")


def training_statements(
    context: IamContext, *, job_roles: Sequence[iam.IRole], storage: StorageSettings
) -> list[iam.PolicyStatement]:
    """Return the permissions to start jobs, with their data and their role.

    Args:
        context: Names and keys of the environment.
        job_roles: Roles that engineers pass to their jobs.
        storage: Settings that name the secrets.
    """
    return [
        *_job_statements(context),
        *_data_statements(context),
        *_secret_statements(context, storage),
        # `make doctor` checks that SageMaker may assume the role.
        allow("SeeTrainingRole", ["iam:GetRole"], [role.role_arn for role in job_roles]),
        _pass_role("PassTrainingRole", job_roles, "sagemaker.amazonaws.com"),
    ]


def _job_statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return the permissions to start, watch and stop jobs whose names begin with the prefix.

    SageMaker authorizes the request before it looks for the job, so a condition on tags would
    answer a job that does not exist with a denial; the name says to which environment it belongs.
    """
    names = context.names
    jobs = [names.arn("sagemaker", f"{kind}/{names.prefix}-*") for kind in JOB_KINDS]
    return [
        allow("CreateJobs", CREATE_JOBS, [*jobs, names.arn("sagemaker", "training-plan/*")]),
        # `sagemaker:TaggingAction` is present only while a job is created: tags of a job that
        # exists cannot be changed.
        # docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemakerai.html
        allow(
            "TagNewJobs",
            ["sagemaker:AddTags"],
            jobs,
            {
                "StringEquals": {
                    "sagemaker:TaggingAction": [a.removeprefix("sagemaker:") for a in CREATE_JOBS]
                }
            },
        ),
        allow("SeeJobs", [*DESCRIBE_JOBS, "sagemaker:ListTags"], jobs),
        allow("StopJobs", STOP_JOBS, jobs),
        # Jobs that were started before names began with the prefix.
        allow(
            "EarlierJobs",
            ["sagemaker:DescribeTrainingJob", "sagemaker:ListTags", "sagemaker:StopTrainingJob"],
            [names.arn("sagemaker", "training-job/*")],
            {"StringEquals": {"aws:ResourceTag/Environment": context.environment}},
        ),
    ]


def cluster_statements(
    context: IamContext, *, eks_cluster_arn: str | None
) -> list[iam.PolicyStatement]:
    """Return the permissions to submit to a HyperPod cluster; `NodeAccess` adds the sessions.

    Args:
        context: Names and keys of the environment.
        eks_cluster_arn: ARN of the EKS cluster; None with Slurm.
    """
    arn = context.names.arn
    statements = [
        allow(
            "SeeClusters",
            ["sagemaker:DescribeCluster", "sagemaker:ListClusterNodes"],
            [arn("sagemaker", "cluster/*")],
        ),
        allow("EndOwnSessions", ["ssm:TerminateSession"], [arn("ssm", "session/${aws:userid}-*")]),
        # fsx:DescribeFileSystems supports no resource.
        allow("SeeLustre", ["fsx:DescribeFileSystems"], ["*"]),
    ]
    if eks_cluster_arn:
        statements.append(allow("FindEks", ["eks:DescribeCluster"], [eks_cluster_arn]))
    return statements


def serving_statements(context: IamContext, *, import_role: iam.IRole) -> list[iam.PolicyStatement]:
    """Return the permissions to register and to import a trained model."""
    arn = context.names.arn
    registered = f"{context.names.bucket_arn('models')}/{REGISTERED_MODELS}"
    return [
        allow(
            "AddModels",
            ["s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:PutObject"],
            [registered],
        ),
        # A file is written once. The parts of an upload carry no condition; their completion does.
        # docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html
        deny(
            "NoModelReplaced",
            ["s3:PutObject"],
            [registered],
            {
                "Null": {"s3:if-none-match": "true"},
                "Bool": {"s3:ObjectCreationOperation": "true"},
            },
        ),
        allow(
            "RegisterModels",
            [
                "sagemaker:CreateModelPackage",
                "sagemaker:DescribeModelPackage",
                "sagemaker:DescribeModelPackageGroup",
                "sagemaker:UpdateModelPackage",
            ],
            [
                arn("sagemaker", f"model-package/{context.names.prefix}-models/*"),
                arn("sagemaker", f"model-package-group/{context.names.prefix}-models"),
            ],
        ),
        allow(
            "RecordLineage",
            ["sagemaker:AddAssociation", "sagemaker:CreateAction", "sagemaker:CreateArtifact"],
            [arn("sagemaker", "artifact/*"), arn("sagemaker", "action/*")],
        ),
        # Lists of lineage entities support no resource.
        allow(
            "FindLineage",
            ["sagemaker:ListActions", "sagemaker:ListArtifacts", "sagemaker:ListAssociations"],
            ["*"],
        ),
        # Starting an import supports no resource; PassRole restricts the role it reads with.
        allow("StartImport", ["bedrock:CreateModelImportJob"], ["*"]),
        allow(
            "ImportModels",
            [
                "bedrock:CreateCustomModelDeployment",
                "bedrock:DeleteCustomModelDeployment",
                "bedrock:GetCustomModelDeployment",
                "bedrock:GetImportedModel",
                "bedrock:GetModelImportJob",
                "bedrock:InvokeModel",
                "bedrock:TagResource",
            ],
            [
                arn("bedrock", "custom-model/*"),
                arn("bedrock", "custom-model-deployment/*"),
                arn("bedrock", "imported-model/*"),
                arn("bedrock", "model-import-job/*"),
            ],
        ),
        _pass_role("PassImportRole", [import_role], "bedrock.amazonaws.com"),
    ]


def _data_statements(context: IamContext) -> list[iam.PolicyStatement]:
    return [
        *write_bucket(context, "data"),
        *write_bucket(context, "runs"),
        *read_bucket(context, "models"),
        use_key(context.data, "Data"),
        grant_key(context.data, "Data"),
        use_key(context.models, "Models"),
    ]


def _secret_statements(context: IamContext, storage: StorageSettings) -> list[iam.PolicyStatement]:
    """Return the permissions to describe and to fill in secrets, but never to read them."""
    arns = [secret_arn(context, name) for name in secret_names(storage)]
    actions = ["secretsmanager:DescribeSecret", "secretsmanager:PutSecretValue"]
    return [allow("SetSecrets", actions, arns)] if arns else []


def reading_statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return the permissions to read parameters, logs, metrics, quotas and images."""
    arn = context.names.arn
    return [
        allow(
            "ReadParameters",
            ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath"],
            [
                arn("ssm", f"parameter/{context.names.prefix}/*"),
                arn("ssm", f"parameter/{context.names.prefix}"),
            ],
        ),
        *_log_statements(context),
        # List actions support no resource.
        allow(
            "ListJobs",
            [
                "pricing:GetProducts",
                "sagemaker:ListHyperParameterTuningJobs",
                "sagemaker:ListModelPackages",
                "sagemaker:ListProcessingJobs",
                "sagemaker:ListTrainingJobs",
                "sagemaker:Search",  # `temper status --env` lists the team's runs by their tags
                "servicequotas:GetServiceQuota",
                "servicequotas:ListServiceQuotas",
            ],
            ["*"],
        ),
        # These actions support no resource: metrics and alarms are read account-wide.
        allow(
            "ReadMetrics",
            ["cloudwatch:DescribeAlarms", "cloudwatch:GetMetricData", "cloudwatch:ListMetrics"],
            ["*"],
        ),
        # `make doctor` compares the zones that offer an instance type with those of the subnets;
        # Describe actions of EC2 support no resource.
        allow("SeeZones", ["ec2:DescribeInstanceTypeOfferings", "ec2:DescribeSubnets"], ["*"]),
        # `temper notify`: people ask for mail about their own runs, and for nothing else.
        allow(
            "GetNotices",
            ["sns:Subscribe"],
            [arn("sns", context.names.runs_topic)],
            {"StringEquals": {"sns:Protocol": "email"}},
        ),
        allow(
            "SeeNotices",
            ["sns:ListSubscriptionsByTopic"],
            [arn("sns", context.names.runs_topic)],
        ),
        allow(
            "ReadImages",
            [
                "ecr:BatchGetImage",
                "ecr:DescribeImages",
                "ecr:DescribeImageScanFindings",
                "ecr:ListImages",
            ],
            [arn("ecr", f"repository/{context.names.prefix}/*")],
        ),
    ]


def _log_statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return the permissions to read the logs of this environment's jobs, cluster and functions.

    All jobs of the account log to the same groups. `logs:FilterLogEvents` would read a whole group,
    while `logs:GetLogEvents` reads a stream, whose name begins with that of its job.
    """
    arn, prefix = context.names.arn, context.names.prefix
    groups = [f"/aws/sagemaker/{kind}" for kind in JOB_LOG_GROUPS]
    own_groups = [
        arn("logs", f"log-group:/aws/sagemaker/Clusters/{prefix}-cluster/*"),
        arn("logs", f"log-group:/temper/{prefix}/*"),
    ]
    return [
        allow(
            "ReadJobLogs",
            ["logs:GetLogEvents"],
            [arn("logs", f"log-group:{group}:log-stream:{prefix}-*") for group in groups],
        ),
        # Listing streams shows the names of jobs, as `sagemaker:ListTrainingJobs` does.
        allow(
            "ListLogStreams",
            ["logs:DescribeLogStreams"],
            # CloudWatch Logs matches actions on a group against its ARN with and without a suffix.
            # docs.aws.amazon.com/AmazonCloudWatch/latest/logs/iam-access-control-overview-cwl.html
            [
                *(arn("logs", f"log-group:{group}{end}") for group in groups for end in ("", ":*")),
                *own_groups,
            ],
        ),
        allow("ReadOwnLogs", ["logs:FilterLogEvents", "logs:GetLogEvents"], own_groups),
    ]


def _pass_role(sid: str, roles: Sequence[iam.IRole], service: str) -> iam.PolicyStatement:
    condition = {"StringEquals": {"iam:PassedToService": service}}
    return allow(sid, ["iam:PassRole"], [role.role_arn for role in roles], condition)
