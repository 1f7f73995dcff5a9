"""The monitoring role: look at jobs and their numbers, say what was seen. It reads no data."""

from aws_cdk import aws_iam as iam

from stacks.policies.iam_statements import IamContext, allow, put_metrics, write_logs


def statements(context: IamContext) -> list[iam.PolicyStatement]:
    """List and describe jobs, read metrics, publish ours, put events of our own source."""
    names = context.names
    return [
        # Listing jobs and reading metrics are account-wide calls without a resource.
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
        allow(
            "Say",
            ["events:PutEvents"],
            [names.arn("events", "event-bus/default")],
            {"ForAllValues:StringEquals": {"events:source": f"temper.{names.prefix}"}},
        ),
        write_logs(context, f"/temper/{names.prefix}/watch-jobs"),
    ]
