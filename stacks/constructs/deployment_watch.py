"""Watch of one deployment: a processing job on a schedule, which compares its captured calls."""

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.constructs.deployment_alarms import add_deployment_alarm
from stacks.constructs.model_endpoint import VARIANT
from stacks.policies.iam_statements import IamContext
from stacks.settings.serving import DeploymentSettings

_INPUTS, _OUTPUT = "/opt/ml/processing/input", "/opt/ml/processing/output"
_JUDGE_CACHE = "/opt/ml/processing/judge-cache"
_MAX_RUNTIME_S = 3600
_VOLUME_GIB = 50


class DeploymentWatch(Construct):
    """Schedule of `python -m monitoring` in the image `serve`, and the alarms on its metrics.

    The job publishes whether the last complete window is flagged; CloudWatch counts the windows.

    Args:
        scope: Stack of the deployment.
        id: Construct id.
        context: Names and keys of the environment.
        settings: The deployment, which has a watch.
        endpoint: Name of its endpoint.
        caller: Role of the schedule.
        role: Role of the job.
        network: Subnets and security group of the job, as its request has them.
        tags: Tags of the job, by which costs are assigned.
        pages: Topic that people subscribe to.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        context: IamContext,
        settings: DeploymentSettings,
        endpoint: str,
        caller: iam.IRole,
        role: iam.IRole,
        network: dict[str, list[str]],
        tags: dict[str, str],
        pages: sns.ITopic,
    ) -> None:
        super().__init__(scope, id)
        assert settings.watch and settings.capture
        self._percent = settings.capture.percent
        self._context, self._settings, self._watch = context, settings, settings.watch
        self._names = context.names
        self._endpoint, self._pages = endpoint, pages
        self._role, self._network, self._tags = role, network, tags
        self._schedule(caller)
        self._add_alarms()

    def _schedule(self, caller: iam.IRole) -> None:
        hours = self._watch.every_hours
        scheduler.CfnSchedule(
            self,
            "Schedule",
            description=f"Compares the calls of {self._endpoint} with its training set",
            schedule_expression="rate(1 hour)" if hours == 1 else f"rate({hours} hours)",
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn="arn:aws:scheduler:::aws-sdk:sagemaker:createProcessingJob",
                role_arn=caller.role_arn,
                input=cdk.Stack.of(self).to_json_string(self._request()),
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_retry_attempts=5, maximum_event_age_in_seconds=3600
                ),
            ),
        )

    def _request(self) -> dict[str, Any]:
        """Return the request of the job; EventBridge Scheduler fills in the id of each run."""
        names, name = self._names, self._settings.name
        home = f"s3://{names.bucket('runs')}/serving/{name}"
        models = f"s3://{names.bucket('models')}/registry/sha256/{self._settings.files}"
        return {
            "ProcessingJobName": f"{names.prefix}-watch-<aws.scheduler.execution-id>",
            "RoleArn": self._role.role_arn,
            "AppSpecification": {
                "ImageUri": f"{names.repository_uri('serve')}@{self._watch.image}",
                "ContainerEntrypoint": ["python", "-m", "monitoring"],
            },
            "Environment": {
                "TEMPER_WATCH_NAME": name,
                "TEMPER_WATCH_MODEL": self._settings.model,
                "TEMPER_WATCH_WINDOW": f"{self._watch.every_hours}h",
                "TEMPER_WATCH_ALARM": f"{self._watch.flagged}/{self._watch.of}",
                "TEMPER_WATCH_NAMESPACE": names.metrics,
                "TEMPER_WATCH_LOGGED_SHARE": f"{self._percent}%",
                **self._judge(),
            },
            "ProcessingInputs": [
                _input("capture", f"{home}/capture/{self._endpoint}/{VARIANT}/"),
                _input("model", f"{models}/"),
                _input("reference", f"{home}/watch/reference/"),
            ],
            "ProcessingOutputConfig": {
                "KmsKeyId": self._context.data.key_arn,
                "Outputs": self._outputs(home),
            },
            "ProcessingResources": {
                "ClusterConfig": {
                    "InstanceType": self._watch.instance,
                    "InstanceCount": 1,
                    "VolumeSizeInGB": _VOLUME_GIB,
                    "VolumeKmsKeyId": self._context.data.key_arn,
                }
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": _MAX_RUNTIME_S},
            "NetworkConfig": {
                "EnableNetworkIsolation": False,
                "VpcConfig": self._network,
            },
            "Tags": [{"Key": key, "Value": value} for key, value in self._tags.items()],
        }

    def _judge(self) -> dict[str, str]:
        judge = self._watch.judge
        if judge is None:
            return {}
        return {
            "TEMPER_WATCH_JUDGE": judge.model,
            "TEMPER_WATCH_JUDGED": str(judge.judged),
            "TEMPER_WATCH_MAX_COST": f"{judge.max_usd:g}",
        }

    def _outputs(self, home: str) -> list[dict[str, Any]]:
        """Return the outputs: the report of each job, and the replies of the judge.

        The replies lie below the reference, which is an input: no answer is paid for twice.
        """
        report = _output("report", f"{home}/watch/reports/<aws.scheduler.execution-id>", _OUTPUT)
        if self._watch.judge is None:
            return [report]
        return [report, _output("judge", f"{home}/watch/reference/judge-cache", _JUDGE_CACHE)]

    def _add_alarms(self) -> None:
        watch = self._watch
        if watch.judge:
            add_deployment_alarm(
                self,
                self._endpoint,
                self._pages,
                "quality",
                what=f"The judged answers of {self._endpoint} are worse than the registered ones, "
                "or no answer was judged in two windows.",
                cause="another version or kind of question, or a judge that cannot be called or "
                "has reached its cost limit.",
                metric=self._metric("QualityAlarm", "Maximum", watch.every_hours),
                periods=2,
                missing_is_fault=True,
            )
        add_deployment_alarm(
            self,
            self._endpoint,
            self._pages,
            "drift",
            what=f"{watch.flagged} of the last {watch.of} windows of {self._endpoint} are unlike "
            "its training set.",
            cause="people ask something else, in another language or at another length, or the "
            "answers have become worse.",
            metric=self._metric("Drifted", "Maximum", watch.every_hours),
            periods=watch.of,
            breaching=watch.flagged,
        )
        add_deployment_alarm(
            self,
            self._endpoint,
            self._pages,
            "unwatched",
            what=f"Nothing has compared the calls of {self._endpoint} in two windows.",
            cause="there were no calls, or the processing job fails.",
            metric=self._metric("Calls", "SampleCount", watch.every_hours),
            periods=2,
            below=True,
        )

    def _metric(self, name: str, statistic: str, hours: int) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=self._names.metrics,
            metric_name=name,
            dimensions_map={"Deployment": self._settings.name},
            statistic=statistic,
            period=cdk.Duration.hours(hours),
        )


def _input(name: str, address: str) -> dict[str, Any]:
    return {
        "InputName": name,
        "S3Input": {
            "S3Uri": address,
            "LocalPath": f"{_INPUTS}/{name}",
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
        },
    }


def _output(name: str, address: str, folder: str) -> dict[str, Any]:
    return {
        "OutputName": name,
        "S3Output": {"S3Uri": address, "LocalPath": folder, "S3UploadMode": "EndOfJob"},
    }
