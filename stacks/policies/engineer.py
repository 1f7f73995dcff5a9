"""The ML engineer: start, watch and stop jobs; import models; never outside the fences."""

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
# These instances encrypt their local disks in hardware, and SageMaker refuses a volume key there.
LOCAL_DISK = ["ml.g5.*", "ml.g6*.*", "ml.g7*.*", "ml.p4d*.*", "ml.p5*.*", "ml.p6*.*", "ml.trn*.*"]


def permissions(
    estate: IamContext, *, training_role: iam.IRole, storage: StorageSettings
) -> list[iam.PolicyStatement]:
    """What an engineer may do to train."""
    return [
        *_jobs(estate),
        *_data(estate),
        *_secrets(estate, storage),
        *_looking(estate),
        # `make doctor` looks whether SageMaker may take the role.
        allow("SeeTrainingRole", ["iam:GetRole"], [training_role.role_arn]),
        _pass("PassTrainingRole", training_role, "sagemaker.amazonaws.com"),
    ]


def _jobs(estate: IamContext) -> list[iam.PolicyStatement]:
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
            [estate.names.arn("sagemaker", f"{kind}/*") for kind in kinds],
        ),
        # List calls name no resource.
        allow(
            "ListJobs",
            [
                "sagemaker:ListHyperParameterTuningJobs",
                "sagemaker:ListModelPackages",
                "sagemaker:ListProcessingJobs",
                "sagemaker:ListTrainingJobs",
                "servicequotas:GetServiceQuota",
                "servicequotas:ListServiceQuotas",
            ],
            ["*"],
        ),
        allow(
            "StartImageBuild",
            ["codebuild:BatchGetBuilds", "codebuild:StartBuild"],
            [estate.names.arn("codebuild", f"project/{estate.names.prefix}-*")],
        ),
    ]


def on_clusters(estate: IamContext, *, eks_cluster_arn: str | None) -> list[iam.PolicyStatement]:
    """What submitting to a HyperPod cluster takes: seeing it, and a shell on its nodes."""
    arn = estate.names.arn
    ssh = f"arn:{Aws.PARTITION}:ssm:{estate.names.region}::document/AWS-StartSSHSession"
    found = [
        allow(
            "SeeClusters",
            ["sagemaker:DescribeCluster", "sagemaker:ListClusterNodes"],
            [arn("sagemaker", "cluster/*")],
        ),
        allow("EnterNodes", ["ssm:StartSession"], [arn("sagemaker", "cluster/*"), ssh]),
        allow("EndOwnSessions", ["ssm:TerminateSession"], [arn("ssm", "session/${aws:userid}-*")]),
        # Describing file systems takes no resource.
        allow("SeeLustre", ["fsx:DescribeFileSystems"], ["*"]),
    ]
    if eks_cluster_arn:
        found.append(allow("FindEks", ["eks:DescribeCluster"], [eks_cluster_arn]))
    return found


def serving(estate: IamContext, *, import_role: iam.IRole) -> list[iam.PolicyStatement]:
    """What an engineer may do with a trained model."""
    arn = estate.names.arn
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
        # Starting an import names no resource; the role it reads with is bounded by PassRole.
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
        _pass("PassImportRole", import_role, "bedrock.amazonaws.com"),
    ]


def _data(estate: IamContext) -> list[iam.PolicyStatement]:
    return [
        *write_bucket(estate, "data"),
        *write_bucket(estate, "runs"),
        *read_bucket(estate, "models"),
        use_key(estate.data, "Data"),
        grant_key(estate.data, "Data"),
        use_key(estate.models, "Models"),
    ]


def _secrets(estate: IamContext, storage: StorageSettings) -> list[iam.PolicyStatement]:
    """See whether they were filled in, and fill them in; never read them."""
    arns = [secret_arn(estate, name) for name in secret_names(storage)]
    actions = ["secretsmanager:DescribeSecret", "secretsmanager:PutSecretValue"]
    return [allow("SetSecrets", actions, arns)] if arns else []


def _looking(estate: IamContext) -> list[iam.PolicyStatement]:
    arn = estate.names.arn
    return [
        allow(
            "ReadParameters",
            ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath"],
            [
                arn("ssm", f"parameter/{estate.names.prefix}/*"),
                arn("ssm", f"parameter/{estate.names.prefix}"),
            ],
        ),
        allow(
            "ReadLogs",
            ["logs:FilterLogEvents", "logs:GetLogEvents", "logs:DescribeLogStreams"],
            [
                arn("logs", "log-group:/aws/sagemaker/*"),
                arn("logs", f"log-group:/temper/{estate.names.prefix}/*"),
            ],
        ),
        # Metrics and alarms are read account-wide; these calls take no resource.
        allow(
            "ReadMetrics",
            ["cloudwatch:DescribeAlarms", "cloudwatch:GetMetricData", "cloudwatch:ListMetrics"],
            ["*"],
        ),
        # Where an instance type is offered, and in which zones our subnets are: EC2 asks for all.
        allow("SeeZones", ["ec2:DescribeInstanceTypeOfferings", "ec2:DescribeSubnets"], ["*"]),
        allow(
            "ReadImages",
            [
                "ecr:BatchGetImage",
                "ecr:DescribeImages",
                "ecr:DescribeImageScanFindings",
                "ecr:ListImages",
            ],
            [arn("ecr", f"repository/{estate.names.prefix}/*")],
        ),
    ]


def _pass(sid: str, role: iam.IRole, service: str) -> iam.PolicyStatement:
    condition = {"StringEquals": {"iam:PassedToService": service}}
    return allow(sid, ["iam:PassRole"], [role.role_arn], condition)


def guardrails(estate: IamContext, *, encrypt_traffic: bool) -> list[iam.PolicyStatement]:
    """Denials: they hold whatever else is attached to the role."""
    keys = [estate.data.key_arn, estate.models.key_arn]
    fences = [
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
        fences.append(
            deny(
                "NoPlainTraffic",
                CREATE_JOBS,
                ["*"],
                {"BoolIfExists": {"sagemaker:InterContainerTrafficEncryption": "false"}},
            )
        )
    return fences
