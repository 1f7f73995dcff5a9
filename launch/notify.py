"""Mail to a person when a run of theirs ends: subscriptions to an environment's topic of runs.

A subscription filters by the attributes that `stacks/handlers/run_notice.py` sets, so that SNS
delivers the ends of one creator's runs only:
https://docs.aws.amazon.com/sns/latest/dg/sns-subscription-filter-policies.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from launch.aws.platform_parameters import read_platform_parameters
from launch.aws.session import AwsSession, explain_aws_errors
from launch.aws.tags import tag_value
from launch.environment import LaunchEnvironment
from launch.errors import InvalidOptionError, LaunchError
from launch.submission import current_user

STATES = ("completed", "failed", "stopped")
_PENDING = "PendingConfirmation"
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


class RunNotices:
    """Subscriptions to the notices of an environment.

    Args:
        environment: The environment.

    Raises:
        LaunchError: The environment is not deployed, or without the topic.
    """

    def __init__(self, environment: LaunchEnvironment):
        account = AwsSession(environment)
        account.caller()
        platform = read_platform_parameters(environment, account.client("ssm"))
        topic = platform.get("monitoring/runs-topic")
        if topic is None:
            raise LaunchError(
                f"the environment {environment.name} was deployed without notices of runs (no "
                f"parameter monitoring/runs-topic). Deploy it: make deploy ENV={environment.name}"
            )
        self._environment = environment
        self._topic = topic
        self._sns: Any = account.client("sns")

    def add(self, email: str, creators: Sequence[str], states: Sequence[str]) -> str:
        """Subscribe an address to the ends of runs, and return what happens next.

        Args:
            email: The address.
            creators: Login names of the people whose runs are meant; empty for one's own.
            states: States that are reported; empty for all.

        Raises:
            InvalidOptionError: The address or a state is invalid, or no login name is known.
            LaunchError: SNS refused the subscription.
        """
        policy = filter_policy(email, creators, states)
        with explain_aws_errors(f"subscribing {email}"):
            try:
                self._sns.subscribe(
                    TopicArn=self._topic,
                    Protocol="email",
                    Endpoint=email,
                    Attributes={"FilterPolicy": json.dumps(policy)},
                )
            except self._sns.exceptions.InvalidParameterException as error:
                if "already exists" not in str(error):
                    raise
                raise LaunchError(
                    f"{email} is subscribed already, with another filter. Remove it first: "
                    f"temper notify {email} --env {self._environment.name} --remove"
                ) from None
        runs = " and ".join(policy["creator"])
        ended = f"is {' or '.join(states)}" if states else "ends"
        if any(state == "confirmed" for _, state in self.recipients(email)):
            return f"{email} gets a mail when a run of {runs} {ended}"
        return (
            f"{email} gets a mail when a run of {runs} {ended}, once it is confirmed: "
            "confirmation pending. Follow the link in the mail 'AWS Notification - Subscription "
            "Confirmation' within two days"
        )

    def recipients(self, email: str = "") -> list[tuple[str, str]]:
        """Return each subscribed address with its state; with `email` those of that address."""
        return [
            (s["Endpoint"], "confirmation pending" if _is_pending(s) else "confirmed")
            for s in self._subscriptions(email)
        ]

    def remove(self, email: str) -> str:
        """Delete the subscriptions of an address, and return what was done.

        Raises:
            LaunchError: The address is not subscribed.
        """
        found = list(self._subscriptions(email))
        if not found:
            raise LaunchError(
                f"{email} is not subscribed to the runs of {self._environment.name}. "
                f"Subscribed are: {', '.join(e for e, _ in self.recipients()) or 'none'}"
            )
        confirmed = [s["SubscriptionArn"] for s in found if not _is_pending(s)]
        for arn in confirmed:
            with explain_aws_errors(f"removing the subscription of {email}"):
                self._unsigned().unsubscribe(SubscriptionArn=arn)
        if len(confirmed) < len(found):
            # docs.aws.amazon.com/sns/latest/dg/sns-delete-subscription-topic.html
            return (
                f"{email} has not confirmed its subscription. SNS cannot delete it before; it "
                "lapses after two days without the confirmation"
            )
        return f"{email} gets no more mail about runs of {self._environment.name}"

    def _subscriptions(self, email: str) -> Iterator[dict[str, str]]:
        with explain_aws_errors("listing the subscriptions"):
            pages = self._sns.get_paginator("list_subscriptions_by_topic").paginate(
                TopicArn=self._topic
            )
            for page in pages:
                for subscription in page["Subscriptions"]:
                    if not email or subscription["Endpoint"].lower() == email.lower():
                        yield subscription

    def _unsigned(self) -> Any:
        """Return a client that signs nothing.

        A subscription by e-mail is deleted without authentication, as the link in each mail does.
        IAM could not restrict `sns:Unsubscribe` to one topic, so engineers do not have it.
        https://docs.aws.amazon.com/sns/latest/api/API_Unsubscribe.html
        """
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config

        config = Config(signature_version=UNSIGNED, user_agent_extra="temper")
        return boto3.client("sns", region_name=self._environment.region, config=config)


def filter_policy(
    email: str, creators: Sequence[str], states: Sequence[str]
) -> dict[str, list[str]]:
    """Return the filter policy of a subscription.

    Args:
        email: Its address.
        creators: Login names; empty for the caller's own.
        states: States that are reported; empty for all.

    Raises:
        InvalidOptionError: The address or a state is invalid, or no login name is known.
    """
    problems = []
    if not _ADDRESS.fullmatch(email):
        problems.append(f"EMAIL: {email!r} is no address. Write one as name@example.org")
    unknown = [state for state in states if state not in STATES]
    if unknown:
        problems.append(f"--state: {', '.join(unknown)} is none of {', '.join(STATES)}")
    names = [tag_value(name) for name in (creators or [current_user()]) if name]
    if not names:
        problems.append("--creator: your login name is unknown. Name it: --creator NAME")
    if problems:
        raise InvalidOptionError("; ".join(problems))
    policy = {"creator": list(dict.fromkeys(names))}
    return policy | ({"state": list(dict.fromkeys(states))} if states else {})


def _is_pending(subscription: dict[str, str]) -> bool:
    """Return whether a recipient has not confirmed; SNS then has no ARN of the subscription."""
    return subscription["SubscriptionArn"] == _PENDING
