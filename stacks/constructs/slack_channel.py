"""Slack channel of the pages, through Amazon Q Developer in chat applications."""

from aws_cdk import aws_chatbot as chatbot
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.naming import ResourceNames
from stacks.policies.iam_statements import allow
from stacks.settings.monitoring import Slack

# Permissions to show the alarm, its history and a graph of its metric in a notification.
SHOW_ALARMS = [
    "cloudwatch:DescribeAlarmHistory",
    "cloudwatch:DescribeAlarms",
    "cloudwatch:GetMetricData",
    "cloudwatch:GetMetricStatistics",
    "cloudwatch:GetMetricWidgetImage",
    "cloudwatch:ListMetrics",
]


class SlackChannel(Construct):
    """Configuration of a channel that receives the messages of a topic, and may read alarms only.

    The guardrail policy caps what people in the channel can run: without one, AWS applies
    AdministratorAccess.
    docs.aws.amazon.com/chatbot/latest/APIReference/API_CreateSlackChannelConfiguration.html
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        settings: Slack,
        topic: sns.ITopic,
    ) -> None:
        super().__init__(scope, id)
        role = iam.Role(
            self,
            "Role",
            description="Shows alarms in a Slack channel",
            assumed_by=iam.ServicePrincipal("chatbot.amazonaws.com"),
        )
        policy = iam.ManagedPolicy(
            self,
            "Policy",
            description="Role and guardrail of the Slack channel",
            # Reading metrics supports no resource.
            statements=[allow("ShowAlarms", SHOW_ALARMS, ["*"])],
            roles=[role],
        )
        chatbot.CfnSlackChannelConfiguration(
            self,
            "Channel",
            configuration_name=f"{names.prefix}-pages",
            iam_role_arn=role.role_arn,
            slack_workspace_id=settings.workspace,
            slack_channel_id=settings.channel,
            sns_topic_arns=[topic.topic_arn],
            guardrail_policies=[policy.managed_policy_arn],
            logging_level="ERROR",
        )
