"""The HyperPod node role: what a node of the cluster may do."""

from aws_cdk import aws_iam as iam

from stacks.policies.iam_statements import (
    IamContext,
    allow,
    grant_key,
    pull_images,
    put_metrics,
    read_bucket,
    use_key,
    write_bucket,
    write_logs,
)


def statements(estate: IamContext) -> list[iam.PolicyStatement]:
    """Read data, write runs and models, log, and let people in through Session Manager."""
    return [
        *read_bucket(estate, "data"),
        *write_bucket(estate, "runs"),
        *write_bucket(estate, "models"),
        use_key(estate.data, "Data"),
        grant_key(estate.data, "Data"),
        use_key(estate.models, "Models"),
        *pull_images(estate),
        put_metrics("/aws/sagemaker/Clusters", estate.names.metrics),
        write_logs(estate, "/aws/sagemaker/Clusters/*"),
        allow(
            "CreateClusterLogGroup",
            ["logs:CreateLogGroup"],
            [estate.names.arn("logs", "log-group:/aws/sagemaker/Clusters/*")],
        ),
        # Session Manager's channels have no ARN to name.
        allow(
            "SessionManager",
            [
                "ssmmessages:CreateControlChannel",
                "ssmmessages:CreateDataChannel",
                "ssmmessages:OpenControlChannel",
                "ssmmessages:OpenDataChannel",
            ],
            ["*"],
        ),
    ]
