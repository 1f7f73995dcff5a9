"""Permissions of the executions of pipelines, and of the functions that start and serve them.

SageMaker names the jobs of an execution `pipelines-<execution>-<step>-<random>`, so that the prefix
of the environment is not in them.
docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-access.html
"""

from collections.abc import Sequence

from aws_cdk import aws_iam as iam

from stacks.policies.iam_statements import IamContext, allow, read_bucket, read_key
from stacks.settings.pipelines import PipelinesSettings

FOLDER = "pipelines"
"""Folder of the bucket of data with the manifests, and of the bucket of runs with the results."""
_KINDS = ("training-job", "processing-job")
_SEE = ("sagemaker:DescribePipeline", "sagemaker:ListPipelineExecutions")
STEP_LOG, START_LOG = "pipeline-steps", "pipeline-starts"


def execution_statements(
    context: IamContext, job_roles: Sequence[iam.IRole]
) -> list[iam.PolicyStatement]:
    """Return the permissions of an execution: its jobs, their roles, its results, registration.

    Args:
        context: Names and keys of the environment.
        job_roles: Roles of the containers.
    """
    names = context.names
    jobs = [names.arn("sagemaker", f"{kind}/pipelines-*") for kind in _KINDS]
    packages = [
        names.arn("sagemaker", f"model-package-group/{names.prefix}-models"),
        names.arn("sagemaker", f"model-package/{names.prefix}-models/*"),
    ]
    return [
        allow(
            "RunJobs",
            [
                "sagemaker:AddTags",
                "sagemaker:CreateProcessingJob",
                "sagemaker:CreateTrainingJob",
                "sagemaker:DescribeProcessingJob",
                "sagemaker:DescribeTrainingJob",
                "sagemaker:StopProcessingJob",
                "sagemaker:StopTrainingJob",
            ],
            jobs,
        ),
        allow(
            "PassJobRoles",
            ["iam:PassRole"],
            [role.role_arn for role in job_roles],
            {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        ),
        allow(
            "EnterModels",
            ["sagemaker:CreateModelPackage", "sagemaker:DescribeModelPackage"],
            packages,
        ),
        # Conditions read the property file of an evaluation.
        *read_bucket(context, "runs", f"{FOLDER}/*"),
        read_key(context.data, "Data"),
    ]


def function_statements(
    context: IamContext, settings: PipelinesSettings
) -> list[iam.PolicyStatement]:
    """Return the permissions of the functions: manifests, executions, versions, the promotion.

    Args:
        context: Names and keys of the environment.
        settings: Settings of the pipelines.
    """
    names = context.names
    pipelines = [
        names.arn("sagemaker", f"pipeline/{names.prefix}-{one.name}") for one in settings.retraining
    ]
    statements = [
        *read_bucket(context, "data", f"{FOLDER}/*"),
        read_key(context.data, "Data"),
        allow("StartPipelines", [*_SEE, "sagemaker:StartPipelineExecution"], pipelines),
        # Listing supports no resource.
        allow("ListVersions", ["sagemaker:ListModelPackages"], ["*"]),
        allow(
            "ReadVersions",
            ["sagemaker:DescribeModelPackage"],
            [names.arn("sagemaker", f"model-package/{names.prefix}-models/*")],
        ),
    ]
    if settings.promotion:
        promotion = [names.arn("codepipeline", settings.promotion)]
        statements.append(
            allow("StartPromotion", ["codepipeline:StartPipelineExecution"], promotion)
        )
    return statements


def engineer_statements(context: IamContext, role: iam.IRole) -> list[iam.PolicyStatement]:
    """Return the permissions of engineers: keep pipelines of the environment, and start them.

    Args:
        context: Names and keys of the environment.
        role: Role of the executions.
    """
    names = context.names
    pipelines = [names.arn("sagemaker", f"pipeline/{names.prefix}-*")]
    return [
        allow(
            "KeepPipelines",
            [
                *_SEE,
                "sagemaker:AddTags",
                "sagemaker:CreatePipeline",
                "sagemaker:DescribePipelineExecution",
                "sagemaker:ListPipelineExecutionSteps",
                "sagemaker:StartPipelineExecution",
                "sagemaker:StopPipelineExecution",
                "sagemaker:UpdatePipeline",
            ],
            [*pipelines, f"{pipelines[0]}/execution/*"],
        ),
        allow(
            "ReadExecutedJobs",
            ["sagemaker:DescribeProcessingJob", "sagemaker:DescribeTrainingJob"],
            [names.arn("sagemaker", f"{kind}/pipelines-*") for kind in _KINDS],
        ),
        allow(
            "PassPipelineRole",
            ["iam:PassRole"],
            [role.role_arn],
            {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        ),
    ]
