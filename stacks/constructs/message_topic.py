"""Encrypted SNS topic that AWS services of this account may publish to."""

from collections.abc import Sequence

from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from stacks.naming import ResourceNames


class MessageTopic(Construct):
    """Topic whose subscribers receive e-mail."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        key: kms.IKey,
        emails: Sequence[str],
        publishers: Sequence[str] = (),
    ) -> None:
        super().__init__(scope, id)
        self.topic = sns.Topic(
            self,
            "Topic",
            display_name=f"{names.prefix} {id.lower()}",
            master_key=key,
            enforce_ssl=True,
        )
        for email in emails:
            self.topic.add_subscription(subscriptions.EmailSubscription(email))
        if publishers:
            self.topic.add_to_resource_policy(
                iam.PolicyStatement(
                    sid="ServicesPublish",
                    principals=[iam.ServicePrincipal(service) for service in publishers],
                    actions=["sns:Publish"],
                    resources=[self.topic.topic_arn],
                    conditions={"StringEquals": {"aws:SourceAccount": names.account}},
                )
            )
