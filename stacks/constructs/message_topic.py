"""Encrypted SNS topic that AWS services of this account may publish to."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from stacks.naming import ResourceNames


class MessageTopic(Construct):
    """Topic with subscribers by e-mail and HTTPS.

    Args:
        scope: Parent construct.
        id: Construct id.
        names: Names of the environment.
        key: Key of the topic.
        emails: Addresses; each must confirm its subscription.
        url_secrets: ARNs of secrets with the URL of an incident tool, which confirms by itself. The
            template holds a reference, which CloudFormation resolves when it deploys.
        publishers: AWS services that may publish.
        topic_name: Name of the topic, if policies of other stacks name it.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        key: kms.IKey,
        emails: Sequence[str],
        url_secrets: Sequence[str] = (),
        publishers: Sequence[str] = (),
        topic_name: str | None = None,
    ) -> None:
        super().__init__(scope, id)
        self.topic = sns.Topic(
            self,
            "Topic",
            topic_name=topic_name,
            display_name=f"{names.prefix} {id.lower()}",
            master_key=key,
            enforce_ssl=True,
        )
        for email in emails:
            self.topic.add_subscription(subscriptions.EmailSubscription(email))
        for index, secret in enumerate(url_secrets):
            sns.CfnSubscription(
                self,
                f"Https{index}",
                topic_arn=self.topic.topic_arn,
                protocol="https",
                endpoint=cdk.SecretValue.secrets_manager(secret).unsafe_unwrap(),
            )
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
