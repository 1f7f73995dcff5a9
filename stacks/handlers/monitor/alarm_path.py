"""Check of the way from an alarm to a person: confirmed subscriptions, enabled alarms."""

from collections.abc import Iterator, Sequence
from typing import Any

from .faults import Fault

FAULT = "alarm-path-broken"
# SNS returns this in place of an ARN until the recipient has confirmed the subscription.
# docs.aws.amazon.com/sns/latest/api/API_Subscribe.html
PENDING = "PendingConfirmation"


def check(sns: Any, cloudwatch: Any, *, topics: Sequence[str], prefix: str) -> Iterator[Fault]:
    """Yield the subscriptions and alarms that would lose a page.

    Args:
        sns: SNS client.
        cloudwatch: CloudWatch client.
        topics: ARNs of the topics that people subscribe to.
        prefix: Prefix of the environment, which begins the names of its alarms.
    """
    for topic in topics:
        pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
        for page in pages:
            for subscription in page["Subscriptions"]:
                if subscription["SubscriptionArn"] == PENDING:
                    yield Fault(
                        _recipient(subscription), FAULT, "the subscription is not confirmed"
                    )
    pages = cloudwatch.get_paginator("describe_alarms").paginate(
        AlarmNamePrefix=f"{prefix}-", AlarmTypes=["MetricAlarm", "CompositeAlarm"]
    )
    for page in pages:
        for alarm in [*page.get("MetricAlarms", []), *page.get("CompositeAlarms", [])]:
            if not alarm["ActionsEnabled"]:
                yield Fault(alarm["AlarmName"], FAULT, "the actions of the alarm are disabled")


def _recipient(subscription: dict[str, str]) -> str:
    """Return the recipient; of a URL, which may hold a key, only the host."""
    endpoint = subscription["Endpoint"]
    if "://" in endpoint:
        return endpoint.partition("://")[2].partition("/")[0]
    return endpoint
