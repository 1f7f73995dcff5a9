"""Permissions of the job monitor: read descriptions, metrics and tags, publish faults, no data."""

from aws_cdk import aws_iam as iam

from stacks.policies.iam_statements import IamContext, allow, put_events, put_metrics, write_logs

JOB_LOGS = "/aws/sagemaker/TrainingJobs"


def statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return the permissions to describe jobs, read metrics, and publish metrics and events."""
    names = context.names
    return [
        # Listing and reading metrics support no resource.
        allow(
            "Look",
            [
                "bedrock:ListImportedModels",
                "bedrock:ListProvisionedModelThroughputs",
                "cloudwatch:GetMetricData",
                "cloudwatch:ListMetrics",
                "sagemaker:ListEndpoints",
                "sagemaker:ListTrainingJobs",
            ],
            ["*"],
        ),
        allow(
            "Describe",
            ["sagemaker:DescribeTrainingJob", "sagemaker:ListTags"],
            [names.arn("sagemaker", "training-job/*")],
        ),
        allow(
            "DescribeEndpoints",
            ["sagemaker:DescribeEndpoint", "sagemaker:ListTags"],
            [names.arn("sagemaker", "endpoint/*")],
        ),
        allow(
            "DescribePlans",
            ["sagemaker:DescribeTrainingPlan"],
            [names.arn("sagemaker", "training-plan/*")],
        ),
        allow(
            "ReadTagsOfModels",
            ["bedrock:ListTagsForResource"],
            [names.arn("bedrock", "imported-model/*")],
        ),
        # The log group holds the lines of all jobs; only a filter for NaN losses reads it.
        allow(
            "FindNan",
            ["logs:FilterLogEvents"],
            [names.arn("logs", f"log-group:{JOB_LOGS}{end}") for end in ("", ":*")],
        ),
        allow(
            "ReadAlarms",
            ["cloudwatch:DescribeAlarms"],
            [names.arn("cloudwatch", f"alarm:{names.prefix}-*")],
        ),
        allow(
            "ReadSubscriptions",
            ["sns:ListSubscriptionsByTopic"],
            [names.arn("sns", f"{names.prefix}-*")],
        ),
        put_metrics(names.metrics),
        put_events(names),
        # The log group keeps its name: CloudFormation would delete a renamed one with its events.
        write_logs(context, f"/temper/{names.prefix}/watch-jobs"),
    ]
