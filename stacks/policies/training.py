"""The training role: what a job's container may do. It starts nothing and changes no setting."""

from aws_cdk import aws_iam as iam

from stacks.policies.estate import (
    Estate,
    allow,
    grant_key,
    hub_token_arn,
    pull_images,
    put_metrics,
    read_bucket,
    use_key,
    write_bucket,
    write_logs,
)

JOB_LOGS = "/aws/sagemaker/*"


def statements(estate: Estate, *, mlflow: bool, hub_token: bool) -> list[iam.PolicyStatement]:
    """Read data, write runs and models, log, report metrics."""
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
    if mlflow:
        found.append(
            # The app's id is known only after its role; the account's apps are the narrowest name.
            allow("Track", ["sagemaker-mlflow:*"], [estate.names.arn("sagemaker", "mlflow-app/*")])
        )
    if hub_token:
        found.append(
            allow("ReadHubToken", ["secretsmanager:GetSecretValue"], [hub_token_arn(estate)])
        )
    return found
