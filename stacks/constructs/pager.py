"""Function between the alarms and the pages, which adds the names of what is affected."""

from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.constructs.handler_function import HandlerFunction
from stacks.constructs.message_topic import MessageTopic
from stacks.naming import ResourceNames
from stacks.policies.iam_statements import IamContext, allow


class AlarmPager(Construct):
    """Topic of the alarms, and the function that publishes them to `pages` with names.

    Args:
        scope: Parent construct.
        id: Construct id.
        names: Names of the environment.
        context: Names and keys for IAM statements.
        sent_events: Table of recent faults, which `EventRules` writes.
        pages: Topic that people subscribe to.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        context: IamContext,
        sent_events: dynamodb.ITable,
        pages: sns.ITopic,
    ) -> None:
        super().__init__(scope, id)
        self.alarms = MessageTopic(
            self,
            "Alarms",
            names=names,
            key=context.messages,
            emails=(),
            publishers=["cloudwatch.amazonaws.com"],
        ).topic
        self.handler = HandlerFunction(
            self,
            "Page",
            module="enrich_alarm_page",
            # Name of the log group; a new name would replace the group and delete its events.
            log_name="page",
            context=context,
            variables={
                "PREFIX": names.prefix,
                "TABLE": sent_events.table_name,
                "TOPIC": pages.topic_arn,
            },
            statements=[
                allow("ReadWhatWasTold", ["dynamodb:GetItem"], [sent_events.table_arn]),
                allow("Publish", ["sns:Publish"], [pages.topic_arn]),
            ],
        )
        function = self.handler.function
        lambda_.CfnPermission(
            self,
            "AlarmsMayCall",
            action="lambda:InvokeFunction",
            function_name=function.function_arn,
            principal="sns.amazonaws.com",
            source_arn=self.alarms.topic_arn,
        )
        sns.Subscription(
            self,
            "Alarm",
            topic=self.alarms,
            protocol=sns.SubscriptionProtocol.LAMBDA,
            endpoint=function.function_arn,
            dead_letter_queue=self.handler.undelivered,
        )
