"""The description of an alarm must name its runbook."""

import re
from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate

KINDS = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
PAGE = re.compile(r"docs/runbooks/[a-z0-9-]+\.md")


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield alarms without a runbook."""
    for logical_id, alarm in template.of_type(*KINDS):
        if not PAGE.search(str(alarm.get("AlarmDescription", ""))):
            yield RuleViolation(logical_id, f"description: {alarm.get('AlarmDescription')!r}")
