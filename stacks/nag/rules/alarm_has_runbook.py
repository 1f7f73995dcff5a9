"""Every alarm's description names the page that says what to do."""

import re
from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate

KINDS = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
PAGE = re.compile(r"docs/runbooks/[a-z0-9-]+\.md")


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yields alarms without a page."""
    for logical_id, alarm in template.of_type(*KINDS):
        if not PAGE.search(str(alarm.get("AlarmDescription", ""))):
            yield RuleViolation(logical_id, f"description: {alarm.get('AlarmDescription')!r}")
