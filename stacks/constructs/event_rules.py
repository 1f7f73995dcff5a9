"""EventBridge rules that publish state changes to the events topic, without duplicates."""

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.constructs.handler_function import HandlerFunction
from stacks.naming import ResourceNames
from stacks.policies.iam_statements import IamContext, allow
from stacks.settings import Environment

# Resources of SageMaker that the rules report on, whose tags name their environment.
TAGGED = (
    "training-job",
    "hyper-parameter-tuning-job",
    "processing-job",
    "transform-job",
    "endpoint",
    "model",
    "model-package",
    "model-card",
    "pipeline",
    "feature-group",
    "image",
    "image-version",
)
FINAL_STATES = ["Completed", "Failed", "Stopped"]
# Rule → (description, event pattern). SageMaker sends an event for every intermediate state of a
# job; only the final states are published.
RULES: dict[str, tuple[str, dict[str, object]]] = {
    "TrainingJobs": (
        "A training job ended",
        {
            "source": ["aws.sagemaker"],
            "detail-type": ["SageMaker Training Job State Change"],
            "detail": {"TrainingJobStatus": FINAL_STATES},
        },
    ),
    "TuningJobs": (
        "A tuning job ended",
        {
            "source": ["aws.sagemaker"],
            "detail-type": ["SageMaker HyperParameter Tuning Job State Change"],
            "detail": {"HyperParameterTuningJobStatus": FINAL_STATES},
        },
    ),
    "OtherJobs": (
        "A processing or transform job failed",
        {
            "source": ["aws.sagemaker"],
            "detail-type": [
                "SageMaker Processing Job State Change",
                "SageMaker Transform Job State Change",
            ],
            "detail": {
                "$or": [{"ProcessingJobStatus": ["Failed"]}, {"TransformJobStatus": ["Failed"]}]
            },
        },
    ),
    "Endpoints": (
        "An endpoint or a deployment to it changed",
        {
            "source": ["aws.sagemaker"],
            "detail-type": [
                "SageMaker Endpoint State Change",
                "SageMaker Endpoint Deployment State Change",
            ],
        },
    ),
    "Registry": (
        "A model, its package or its card changed",
        {
            "source": ["aws.sagemaker"],
            "detail-type": [
                "SageMaker Model Package State Change",
                "SageMaker Model Card State Change",
                "SageMaker Model State Change",
            ],
        },
    ),
    "Pipelines": (
        "A pipeline or one of its steps changed",
        {
            "source": ["aws.sagemaker"],
            "detail-type": [
                "SageMaker Model Building Pipeline Execution Status Change",
                "SageMaker Model Building Pipeline Execution Step Status Change",
            ],
        },
    ),
    "Assets": (
        "A SageMaker image or feature group changed",
        {
            "source": ["aws.sagemaker"],
            "detail-type": [
                "SageMaker Feature Group State Change",
                "SageMaker Image State Change",
                "SageMaker Image Version State Change",
            ],
        },
    ),
    "Cluster": (
        "A HyperPod cluster or one of its nodes changed",
        {
            "source": ["aws.sagemaker"],
            "detail-type": [
                "SageMaker HyperPod Cluster State Change",
                "SageMaker HyperPod Cluster Node Health Event",
                "SageMaker HyperPod Cluster Event",
            ],
        },
    ),
    "Bedrock": (
        "A Bedrock customization or batch job changed",
        {
            "source": ["aws.bedrock"],
            "detail-type": [
                "Model Customization Job State Change",
                "Batch Inference Job State Change",
            ],
        },
    ),
    "Keys": (
        "A key was disabled or is to be deleted",
        {
            "source": ["aws.kms"],
            "detail-type": ["AWS API Call via CloudTrail"],
            "detail": {"eventName": ["DisableKey", "ScheduleKeyDeletion"]},
        },
    ),
}


class EventRules(Construct):
    """Rules, the function that publishes their events, and its table of events already sent.

    EventBridge delivers at least once; the table makes the function publish once. To report another
    event, add a rule to `RULES`, and its runbook to `stacks/handlers/event_runbook.py`. The rules
    match the events of the account; `stacks/handlers/event_scope.py` drops what does not concern
    the environment.

    Attributes:
        sent_events: Table of fingerprints of published events, and of recent faults by alarm.
        handler: Function `publish_event`.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        context: IamContext,
        topic: sns.ITopic,
        pages: sns.ITopic,
        runs: sns.ITopic,
        environment: Environment,
    ) -> None:
        super().__init__(scope, id)
        self.sent_events = dynamodb.Table(
            self,
            "Told",
            partition_key=dynamodb.Attribute(
                name="fingerprint", type=dynamodb.AttributeType.STRING
            ),
            time_to_live_attribute="expires",
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED,
            encryption_key=context.messages,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            removal_policy=cdk.RemovalPolicy.DESTROY,  # holds events of the last six hours
        )
        self.handler = HandlerFunction(
            self,
            "Notify",
            module="publish_event",
            # Name of the log group; a new name would replace the group and delete its events.
            log_name="notify",
            context=context,
            variables={
                "TABLE": self.sent_events.table_name,
                "TOPIC": topic.topic_arn,
                "PAGES": pages.topic_arn,
                "RUNS": runs.topic_arn,
                "NAMESPACE": names.metrics,
                "PREFIX": names.prefix,
                "ENVIRONMENT": environment.name
                if environment.monitoring.scope == "environment"
                else "",
                "KEYS": cdk.Stack.of(self).to_json_string(
                    [
                        key.key_arn
                        for key in (context.data, context.models, context.logs, context.messages)
                    ]
                ),
            },
            statements=[
                allow(
                    "Remember",
                    ["dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:UpdateItem"],
                    [self.sent_events.table_arn],
                ),
                allow(
                    "Publish",
                    ["sns:Publish"],
                    [topic.topic_arn, pages.topic_arn, runs.topic_arn],
                ),
                allow(
                    "ReadAlarms",
                    ["cloudwatch:DescribeAlarms"],
                    [names.arn("cloudwatch", f"alarm:{names.prefix}-*")],
                ),
                allow(
                    "ReadTags",
                    ["sagemaker:ListTags"],
                    [names.arn("sagemaker", f"{kind}/*") for kind in TAGGED],
                ),
                allow(
                    "ReadVersions",  # of models, from the metadata of their packages
                    ["sagemaker:DescribeModelPackage"],
                    [names.arn("sagemaker", "model-package/*")],
                ),
                allow(
                    "ReadTagsOfBedrock",
                    ["bedrock:ListTagsForResource"],
                    [
                        names.arn("bedrock", "model-customization-job/*"),
                        names.arn("bedrock", "model-invocation-job/*"),
                    ],
                ),
            ],
        )
        for rule, (description, pattern) in RULES.items():
            self._rule(rule, description, pattern)
        builds = {
            "source": ["aws.codebuild"],
            "detail-type": ["CodeBuild Build State Change"],
            "detail": {
                "build-status": ["FAILED", "FAULT", "TIMED_OUT"],
                "project-name": [names.build_project],
            },
        }
        self._rule("Builds", "A build of an image failed", builds)
        platform_events = {"source": [names.event_source]}
        self._rule("Ours", "What our own functions found", platform_events)

    def _rule(self, id: str, description: str, pattern: Mapping[str, object]) -> None:
        rule = events.Rule(
            self,
            id,
            description=description,
            event_pattern=events.EventPattern(source=["overridden"]),
            targets=[self.handler.event_target(retries=8, max_age=cdk.Duration.hours(6))],
        )
        # The L2 construct cannot express `$or`, so the pattern is set on the resource.
        resource = rule.node.default_child
        assert isinstance(resource, events.CfnRule)
        resource.event_pattern = dict(pattern)
