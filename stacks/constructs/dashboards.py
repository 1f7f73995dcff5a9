"""Two CloudWatch dashboards: operations and cost."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from stacks.naming import ResourceNames

HOUR = cdk.Duration.hours(1)
DAY = cdk.Duration.days(1)
JOBS = '{"/aws/sagemaker/TrainingJobs",TrainingJobName}'
HOSTS = '{"/aws/sagemaker/TrainingJobs",Host}'


class Dashboards(Construct):
    """Dashboards built from metric searches, which include jobs and models created later."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        alarms: Sequence[str],
        bedrock: bool,
    ) -> None:
        super().__init__(scope, id)
        rows: list[Sequence[cloudwatch.IWidget]] = [
            [
                cloudwatch.AlarmStatusWidget(
                    title="Alarms",
                    alarms=[self._named(names, name) for name in alarms],
                    width=24,
                    height=5,
                )
            ],
            [
                _graph("Loss", f"SEARCH('{JOBS} MetricName=\"loss\"', 'Average')"),
                _graph("Tokens/s", f"SEARCH('{JOBS} MetricName=\"tokens_per_second\"', 'Average')"),
            ],
            [
                _graph("GPU, sum per host", f"SEARCH('{HOSTS} GPUUtilization', 'Average')"),
                _graph("GPU memory", f"SEARCH('{HOSTS} GPUMemoryUtilization', 'Average')"),
                _graph("Disk", f"SEARCH('{HOSTS} DiskUtilization', 'Maximum')"),
            ],
        ]
        if bedrock:
            calls = "SEARCH('{AWS/Bedrock,ModelId} MetricName=\"%s\"', '%s')"
            rows.append(
                [
                    _graph("Bedrock calls", calls % ("Invocations", "Sum")),
                    _graph("Bedrock throttled", calls % ("InvocationThrottles", "Sum")),
                    _graph("Bedrock latency, ms", calls % ("InvocationLatency", "Average")),
                ]
            )
        cloudwatch.Dashboard(
            self,
            "Operations",
            dashboard_name=f"{names.prefix}-operations",
            default_interval=cdk.Duration.hours(12),
            widgets=rows,
        )
        cloudwatch.Dashboard(
            self,
            "Cost",
            dashboard_name=f"{names.prefix}-cost",
            default_interval=cdk.Duration.days(30),
            widgets=_cost_rows(names),
        )

    def _named(self, names: ResourceNames, name: str) -> cloudwatch.IAlarm:
        arn = names.arn("cloudwatch", f"alarm:{names.prefix}-{name}")
        return cloudwatch.Alarm.from_alarm_arn(self, name, arn)


def _cost_rows(names: ResourceNames) -> list[Sequence[cloudwatch.IWidget]]:
    charges = cloudwatch.MathExpression(
        expression="SEARCH('{AWS/Billing,Currency,ServiceName} EstimatedCharges', 'Maximum')",
        using_metrics={},
        label="",
        period=DAY,
        search_region="us-east-1",  # billing metrics exist there only
    )
    stored = " ".join(names.bucket(kind) for kind in ("data", "runs", "models"))
    return [
        [
            cloudwatch.GraphWidget(
                title="Estimated charges this month, USD", left=[charges], width=24
            )
        ],
        [
            _graph(
                "Host-hours with a GPU metric",
                f"SEARCH('{HOSTS} GPUUtilization', 'SampleCount')",
                DAY,
            ),
            _graph(
                "Bytes stored",
                "SEARCH('{AWS/S3,BucketName,StorageType} BucketSizeBytes "
                f"BucketName=({stored.replace(' ', ' OR ')})', 'Average')",
                DAY,
            ),
            cloudwatch.GraphWidget(
                title="Idle provisioned throughput",
                left=[
                    cloudwatch.Metric(
                        namespace=names.metrics,
                        metric_name="bedrock-idle-throughput",
                        statistic="Maximum",
                        period=HOUR,
                    )
                ],
                width=8,
            ),
        ],
    ]


def _graph(title: str, search: str, period: cdk.Duration | None = None) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(
        title=title,
        left=[
            cloudwatch.MathExpression(
                expression=search,
                using_metrics={},
                label="",
                period=period or cdk.Duration.minutes(5),
            )
        ],
        width=8,
    )
