"""Permissions of the job monitor: read job descriptions and metrics, publish faults, no data."""

from aws_cdk import aws_iam as iam

from stacks.policies.iam_statements import IamContext, allow, put_events, put_metrics, write_logs


def statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return the permissions to describe jobs, read metrics, and publish metrics and events."""
    names = context.names
    return [
        # Listing jobs and reading metrics support no resource.
        allow(
            "Look",
            ["cloudwatch:GetMetricData", "cloudwatch:ListMetrics", "sagemaker:ListTrainingJobs"],
            ["*"],
        ),
        allow(
            "Describe",
            ["sagemaker:DescribeTrainingJob", "sagemaker:ListTags"],
            [names.arn("sagemaker", "training-job/*")],
        ),
        put_metrics(names.metrics),
        put_events(names),
        # The log group keeps its name: CloudFormation would delete a renamed one with its events.
        write_logs(context, f"/temper/{names.prefix}/watch-jobs"),
    ]
