"""Rules of AWS about the recipients of pages."""

from collections.abc import Iterator

from stacks.settings.base import duplicates
from stacks.settings.environment import Environment


def recipients(environment: Environment) -> Iterator[str]:
    """Yield recipients that are listed twice: SNS sends one message per subscription."""
    monitoring = environment.monitoring
    yield from duplicates("monitoring.page", monitoring.page)
    yield from duplicates("monitoring.events", monitoring.events)
    yield from duplicates("monitoring.page_https", monitoring.page_https)


def page_secrets(environment: Environment) -> Iterator[str]:
    """Yield secrets of another Region, which CloudFormation cannot resolve."""
    for index, arn in enumerate(environment.monitoring.page_https):
        region = arn.split(":")[3]
        if region != environment.region:
            yield (
                f"monitoring.page_https.{index}: the secret is in {region}, and CloudFormation "
                f"reads it in {environment.region}; create it there"
            )


def slack(environment: Environment) -> Iterator[str]:
    """Yield a Slack channel in a partition that chat applications do not serve."""
    if environment.monitoring.slack and environment.region.startswith(("cn-", "us-gov-")):
        yield (
            "monitoring.slack: a channel configuration has an ARN of the partition aws, and "
            f"{environment.region} is in another one; use monitoring.page_https, or remove it"
        )
