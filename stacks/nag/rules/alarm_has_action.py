"""Every alarm has an action, or is part of a composite alarm that has one."""

import re
from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate, text

MEMBER = re.compile(r"""ALARM\(["']?([^"')]+)["']?\)""")
KINDS = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yields alarms that nobody would hear of."""
    heard = {
        name
        for _, composite in template.of_type("AWS::CloudWatch::CompositeAlarm")
        if composite.get("AlarmActions")
        for name in MEMBER.findall(text(composite["AlarmRule"]))
    }
    for logical_id, alarm in template.of_type(*KINDS):
        if not alarm.get("AlarmActions") and alarm.get("AlarmName") not in heard:
            yield RuleViolation(logical_id, "no action, and in no composite with one")
