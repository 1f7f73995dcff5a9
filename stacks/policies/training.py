"""Permissions of a job's container. It starts no other job and changes no setting."""

from collections.abc import Iterable

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from stacks.policies.iam_statements import (
    IamContext,
    allow,
    grant_key,
    pull_images,
    put_metrics,
    read_bucket,
    secret_arn,
    secret_names,
    use_key,
    write_bucket,
    write_logs,
)
from stacks.policies.managed_customization import (
    call_graders,
    hub_statements,
    pull_recipes,
    read_evaluators,
)
from stacks.settings import Environment

JOB_LOGS = ("/aws/sagemaker/TrainingJobs", "/aws/sagemaker/ProcessingJobs")
# An id with one of these prefixes is an inference profile, which routes between Regions.
_PROFILE_PREFIXES = frozenset(("us", "eu", "apac", "global", "jp", "au", "ca", "us-gov"))


def statements(
    context: IamContext, environment: Environment, *, secrets: bool
) -> list[iam.PolicyStatement]:
    """Return the permissions to read data, write runs and models, log, and call judge models.

    Args:
        context: Names and keys of the environment.
        environment: Settings that name the secrets and the judges.
        secrets: Include reading the secrets, for the role of jobs that name one.
    """
    allowed = [
        *read_bucket(context, "data"),
        *write_bucket(context, "runs"),
        *write_bucket(context, "models"),
        use_key(context.data, "Data"),
        grant_key(context.data, "Data"),
        use_key(context.models, "Models"),
        *pull_images(context),
        put_metrics(
            "/aws/sagemaker/TrainingJobs", "/aws/sagemaker/ProcessingJobs", context.names.metrics
        ),
        write_logs(context, *JOB_LOGS),
    ]
    if secrets:
        arns = [secret_arn(context, name) for name in secret_names(environment.storage)]
        allowed.append(allow("ReadSecrets", ["secretsmanager:GetSecretValue"], arns))
    if environment.training.managed_customization:
        allowed += [
            *hub_statements(context),
            call_graders(context),
            read_evaluators(context),
            pull_recipes(context),
        ]
    return [*allowed, *ask_judges(context, environment)]


def ask_judges(context: IamContext, environment: Environment) -> list[iam.PolicyStatement]:
    """Return the permission to call the judge models of the environment, if it has any."""
    return ask_models(context, environment.bedrock.judges)


def ask_models(context: IamContext, models: Iterable[str]) -> list[iam.PolicyStatement]:
    """Return the permission to call some models of Bedrock, if there are any.

    Args:
        context: Names and keys of the environment.
        models: Ids of models or inference profiles.
    """
    arns = [arn for model in models for arn in _model_arns(context, model)]
    return [allow("AskJudges", ["bedrock:InvokeModel"], arns)] if arns else []


def _model_arns(context: IamContext, judge: str) -> list[str]:
    """Return the ARNs that invoking a model requires.

    A foundation model has one. An inference profile requires its own, and that of its model in
    every
    Region it routes to. docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-prereq.html
    """
    prefix, _, model = judge.partition(".")
    if prefix not in _PROFILE_PREFIXES:
        return [f"arn:{Aws.PARTITION}:bedrock:{context.names.region}::foundation-model/{judge}"]
    return [
        context.names.arn("bedrock", f"inference-profile/{judge}"),
        f"arn:{Aws.PARTITION}:bedrock:*::foundation-model/{model}",
    ]
