"""Check of the way from an alarm to a person."""

from __future__ import annotations

from typing import Any

from launch.aws.session import DENIED, AwsSession, explain_aws_errors
from launch.doctor.checks import CheckWarning, Skipped

PROBLEMS = {
    "alarm-path-broken": "a subscription to the pages is pending confirmation, or the actions of "
    "an alarm are disabled: a page could be lost",
    "monitor-silent": "the job monitor does not run: nothing watches the jobs",
}


class AlarmPathCheck:
    """States of the platform's alarms about its own alarms.

    Args:
        account: Session of the account.
    """

    def __init__(self, account: AwsSession):
        self.account = account

    def run(self) -> str:
        """Return that pages reach their recipients.

        Raises:
            CheckWarning: Pages may be lost, or nothing watches the jobs.
            Skipped: The alarms do not exist, or the credentials may not read them.
        """
        prefix = self.account.environment.prefix
        names = [f"{prefix}-{name}" for name in PROBLEMS]
        answer: dict[str, Any] = {}
        with explain_aws_errors("reading the alarms", ignore=DENIED):
            answer = self.account.client("cloudwatch").describe_alarms(AlarmNames=names)
        if not answer:
            raise Skipped("these credentials may not read alarms")
        states = {
            alarm["AlarmName"].removeprefix(f"{prefix}-"): alarm["StateValue"]
            for alarm in answer["MetricAlarms"]
        }
        if not states:
            raise Skipped("the monitoring stack is not deployed, or older than these alarms")
        active = [name for name, state in states.items() if state == "ALARM"]
        if active:
            pages = ", ".join(f"docs/runbooks/{name}.md" for name in active)
            raise CheckWarning("; ".join(PROBLEMS[name] for name in active), f"read {pages}")
        return "subscriptions are confirmed, and the job monitor runs"
