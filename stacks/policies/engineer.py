"""Permissions of ML engineers: run jobs and import models, within denials that always hold."""

from aws_cdk import Aws
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
# These instances encrypt local disks in hardware, and SageMaker rejects a volume key for them.
LOCAL_DISK = ["ml.g5.*", "ml.g6*.*", "ml.g7*.*", "ml.p4d*.*", "ml.p5*.*", "ml.p6*.*", "ml.trn*.*"]


def training_statements(
    context: IamContext, *, training_role: iam.IRole, storage: StorageSettings
) -> list[iam.PolicyStatement]:
    """Return the permissions that training requires.

    Args:
        context: Names and keys of the environment.
        training_role: Role that engineers pass to their jobs.
        storage: Settings that name the secrets.
    """
    return [
        *_job_statements(context),
        *_data_statements(context),
        *_secret_statements(context, storage),
        *_read_statements(context),
        # `make doctor` checks that SageMaker may assume the role.
        allow("SeeTrainingRole", ["iam:GetRole"], [training_role.role_arn]),
        _pass_role("PassTrainingRole", training_role, "sagemaker.amazonaws.com"),
    ]


def _job_statements(context: IamContext) -> list[iam.PolicyStatement]:
    kinds = ("training-job", "processing-job", "hyper-parameter-tuning-job", "training-plan")
    return [
        allow(
            "RunJobs",
            [
                *CREATE_JOBS,
                "sagemaker:AddTags",
                "sagemaker:DescribeHyperParameterTuningJob",
                "sagemaker:DescribeProcessingJob",
                "sagemaker:DescribeTrainingJob",
                "sagemaker:ListTags",
                "sagemaker:StopHyperParameterTuningJob",
                "sagemaker:StopProcessingJob",
                "sagemaker:StopTrainingJob",
                "sagemaker:UpdateTrainingJob",
            ],
            [context.names.arn("sagemaker", f"{kind}/*") for kind in kinds],
        ),
        # List actions support no resource.
        allow(
            "ListJobs",
            [
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
    return [
        allow(
            "RegisterModels",
            [
                "sagemaker:CreateModelPackage",
                "sagemaker:DescribeModelPackage",
                "sagemaker:DescribeModelPackageGroup",
                "sagemaker:UpdateModelPackage",
            ],
            [arn("sagemaker", "model-package/*"), arn("sagemaker", "model-package-group/*")],
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
        _pass_role("PassImportRole", import_role, "bedrock.amazonaws.com"),
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


def _read_statements(context: IamContext) -> list[iam.PolicyStatement]:
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
        allow(
            "ReadLogs",
            ["logs:FilterLogEvents", "logs:GetLogEvents", "logs:DescribeLogStreams"],
            [
                arn("logs", "log-group:/aws/sagemaker/*"),
                arn("logs", f"log-group:/temper/{context.names.prefix}/*"),
            ],
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


def _pass_role(sid: str, role: iam.IRole, service: str) -> iam.PolicyStatement:
    condition = {"StringEquals": {"iam:PassedToService": service}}
    return allow(sid, ["iam:PassRole"], [role.role_arn], condition)


def guardrail_statements(
    context: IamContext, *, encrypt_traffic: bool
) -> list[iam.PolicyStatement]:
    """Return the denials, which hold whatever else is attached to the role.

    Args:
        context: Names and keys of the environment.
        encrypt_traffic: Deny multi-host jobs without encrypted traffic between containers.
    """
    keys = [context.data.key_arn, context.models.key_arn]
    denials = [
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
                "Null": {"sagemaker:VolumeKmsKeyArn": "true"},
                "ForAnyValue:StringNotLike": {"sagemaker:InstanceTypes": LOCAL_DISK},
            },
        ),
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
