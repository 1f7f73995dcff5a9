"""Permissions of managed customization: Bedrock's role, and what engineers ask of the providers.

docs.aws.amazon.com/bedrock/latest/userguide/custom-model-job-access-security.html
"""

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from stacks.naming import ResourceNames
from stacks.policies.iam_statements import (
    IamContext,
    allow,
    describe_network,
    read_bucket,
    read_key,
    use_key,
    write_logs,
)

UPLOADS = "uploads/*"
_HUB = "SageMakerPublicHub"
_JOB_TAG = "BedrockModelCustomizationJobArn"


def role_statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return the permissions of Bedrock: read records, write results, reach the VPC, call graders.

    Args:
        context: Names and keys of the environment.
    """
    names = context.names
    models = f"{names.bucket_arn('models')}/models/*"
    return [
        *read_bucket(context, "data", UPLOADS),
        allow(
            "ListModels", ["s3:GetBucketLocation", "s3:ListBucket"], [names.bucket_arn("models")]
        ),
        allow("WriteModels", ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"], [models]),
        read_key(context.data, "Data"),
        use_key(context.models, "Models"),
        call_graders(context),
        *_network_statements(context),
    ]


def call_graders(context: IamContext) -> iam.PolicyStatement:
    """Return the permission to call the graders of an environment."""
    return allow("CallGraders", ["lambda:InvokeFunction"], [_grader(context)])


def grader_log_group(names: ResourceNames) -> str:
    """Return the name of the log group of an environment's graders."""
    return f"/aws/lambda/{names.prefix}-graders"


def grader_statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return the permission of a grader, which computes scores from its event: to write its log.

    Args:
        context: Names and keys of the environment.
    """
    return [write_logs(context, grader_log_group(context.names))]


def pull_recipes(context: IamContext) -> iam.PolicyStatement:
    """Return the permission to pull the images of AWS's recipes, whose account differs by Region.

    github.com/aws/sagemaker-hyperpod-recipes: launcher/recipe_templatization/llmft/
    llmft_regional_parameters.json
    """
    repository = f"arn:{Aws.PARTITION}:ecr:{context.names.region}:*:repository/hyperpod-recipes*"
    return allow(
        "PullRecipes",
        ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        [repository],
    )


def read_evaluators(context: IamContext) -> iam.PolicyStatement:
    """Return the permission to read the evaluators of an environment, which name its graders."""
    hub = context.names.arn("sagemaker", f"hub/{_grader_hub(context)}")
    return allow("ReadEvaluators", ["sagemaker:DescribeHubContent"], [hub, _evaluator(context)])


def _grader_hub(context: IamContext) -> str:
    return f"{context.names.prefix}-graders"


def _evaluator(context: IamContext) -> str:
    return context.names.arn("sagemaker", f"hub-content/{_grader_hub(context)}/JsonDoc/*")


def _grader(context: IamContext) -> str:
    return context.names.arn("lambda", f"function:{context.names.prefix}-grader-*")


def _network_statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return the permissions to put a job into the VPC."""
    arn = context.names.arn
    managed = {"StringEquals": {"aws:ResourceTag/BedrockManaged": "true"}}
    return [
        describe_network("SeeNetwork"),
        allow(
            "JoinNetwork",
            ["ec2:CreateNetworkInterface"],
            [arn("ec2", "subnet/*"), arn("ec2", "security-group/*")],
        ),
        allow(
            "MakeInterfaces",
            ["ec2:CreateNetworkInterface"],
            [arn("ec2", "network-interface/*")],
            {"StringEquals": {"aws:RequestTag/BedrockManaged": "true"}},
        ),
        allow(
            "TagInterfaces",
            ["ec2:CreateTags"],
            [arn("ec2", "network-interface/*")],
            {
                "StringEquals": {"ec2:CreateAction": "CreateNetworkInterface"},
                "ForAllValues:StringEquals": {"aws:TagKeys": ["BedrockManaged", _JOB_TAG]},
            },
        ),
        allow(
            "RemoveInterfaces",
            ["ec2:CreateNetworkInterfacePermission", "ec2:DeleteNetworkInterface"],
            [arn("ec2", "network-interface/*")],
            managed,
        ),
    ]


def engineer_statements(
    context: IamContext, *, role: iam.IRole, grader: iam.IRole
) -> list[iam.PolicyStatement]:
    """Return the permissions of engineers to customize models, and to read SageMaker's hub.

    Args:
        context: Names and keys of the environment.
        role: Role that they pass to Bedrock.
        grader: Role that they pass to the functions that score answers.
    """
    arn, region = context.names.arn, context.names.region
    jobs, models = arn("bedrock", "model-customization-job/*"), arn("bedrock", "custom-model/*")
    foundation = f"arn:{Aws.PARTITION}:bedrock:{region}::foundation-model/*"
    hub = f"arn:{Aws.PARTITION}:sagemaker:{region}:aws:hub"
    return [
        allow("Customize", ["bedrock:CreateModelCustomizationJob"], [foundation, jobs, models]),
        allow(
            "SeeCustomizations",
            [
                "bedrock:GetModelCustomizationJob",
                "bedrock:ListTagsForResource",
                "bedrock:StopModelCustomizationJob",
                "bedrock:TagResource",
            ],
            [jobs, models],
        ),
        allow("DeleteCustomModels", ["bedrock:DeleteCustomModel"], [models]),
        # List actions support no resource.
        allow("ListCustomizations", ["bedrock:ListModelCustomizationJobs"], ["*"]),
        allow(
            "PassCustomizationRole",
            ["iam:PassRole"],
            [role.role_arn],
            {"StringEquals": {"iam:PassedToService": "bedrock.amazonaws.com"}},
        ),
        allow(
            "ManageGraders",
            [
                "lambda:CreateFunction",
                "lambda:DeleteFunction",
                "lambda:GetFunction",
                "lambda:TagResource",
                "lambda:UpdateFunctionCode",
            ],
            [_grader(context)],
        ),
        allow(
            "ManageEvaluators",
            ["sagemaker:CreateHub", "sagemaker:DeleteHubContent", "sagemaker:ImportHubContent"],
            [context.names.arn("sagemaker", f"hub/{_grader_hub(context)}"), _evaluator(context)],
        ),
        read_evaluators(context),
        allow(
            "PassGraderRole",
            ["iam:PassRole"],
            [grader.role_arn],
            {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}},
        ),
        # Bedrock encrypts the model with the key of the person who starts the job.
        allow(
            "GrantModelsKey",
            ["kms:CreateGrant"],
            [context.models.key_arn],
            {"StringEquals": {"kms:ViaService": f"bedrock.{region}.{Aws.URL_SUFFIX}"}},
        ),
        allow(
            "ReadHub",
            ["sagemaker:DescribeHubContent"],
            [f"{hub}/{_HUB}", f"{hub}-content/{_HUB}/Model/*"],
        ),
        *hub_statements(context),
    ]


def hub_statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return the permission to read recipes and weights of SageMaker's hub, which AWS owns.

    Args:
        context: Names and keys of the environment.
    """
    bucket = f"arn:{Aws.PARTITION}:s3:::jumpstart-*-{context.names.region}"
    return [
        allow("ReadHubObjects", ["s3:GetObject"], [f"{bucket}/*"]),
        allow("ListHubObjects", ["s3:ListBucket"], [bucket]),
    ]
