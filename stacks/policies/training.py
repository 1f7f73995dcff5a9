"""The training role: what a job's container may do. It starts nothing and changes no setting."""

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
from stacks.settings import Environment

JOB_LOGS = "/aws/sagemaker/*"
# With what the ids of inference profiles begin: where they send a call.
_AREAS = frozenset(("us", "eu", "apac", "global", "jp", "au", "ca", "us-gov"))


def statements(estate: IamContext, environment: Environment) -> list[iam.PolicyStatement]:
    """Read data, write runs and models, log, report metrics; ask the judges there are."""
    found = [
        *read_bucket(estate, "data"),
        *write_bucket(estate, "runs"),
        *write_bucket(estate, "models"),
        use_key(estate.data, "Data"),
        grant_key(estate.data, "Data"),
        use_key(estate.models, "Models"),
        *pull_images(estate),
        put_metrics(
            "/aws/sagemaker/TrainingJobs", "/aws/sagemaker/ProcessingJobs", estate.names.metrics
        ),
        write_logs(estate, JOB_LOGS),
    ]
    if environment.training.mlflow:
        found.append(
            # The app's id is known only after its role; the account's apps are the narrowest name.
            allow(
                "Track",
                # An app's door is SageMaker's action, what is done inside are MLflow's.
                ["sagemaker:CallMlflowAppApi", "sagemaker-mlflow:*"],
                [estate.names.arn("sagemaker", "mlflow-app/*")],
            )
        )
    if secrets := secret_names(environment.storage):
        arns = [secret_arn(estate, name) for name in secrets]
        found.append(allow("ReadSecrets", ["secretsmanager:GetSecretValue"], arns))
    if judges := environment.bedrock.judges:
        arns = [arn for judge in judges for arn in _judge_arns(estate, judge)]
        found.append(allow("AskJudges", ["bedrock:InvokeModel"], arns))
    return found


def _judge_arns(estate: IamContext, judge: str) -> list[str]:
    """A model's own ARN; of an inference profile, the profile's and the model's in its Regions.

    docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-prereq.html
    """
    area, _, model = judge.partition(".")
    if area not in _AREAS:
        return [f"arn:{Aws.PARTITION}:bedrock:{estate.names.region}::foundation-model/{judge}"]
    return [
        estate.names.arn("bedrock", f"inference-profile/{judge}"),
        f"arn:{Aws.PARTITION}:bedrock:*::foundation-model/{model}",
    ]
