"""An alarm must have an action, or be part of a composite alarm that has one.

A composite alarm may have an action for its all-clear only, as its members page.
"""

import re
from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate, as_text

MEMBER = re.compile(r"""ALARM\(["']?([^"')]+)["']?\)""")
KINDS = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield alarms whose state change would go unnoticed."""
    covered = {
        name
        for _, composite in template.of_type("AWS::CloudWatch::CompositeAlarm")
        if composite.get("AlarmActions")
        for name in MEMBER.findall(as_text(composite["AlarmRule"]))
    }
    for logical_id, alarm in template.of_type(*KINDS):
        all_clear = "AlarmRule" in alarm and alarm.get("OKActions")
        acts = alarm.get("AlarmActions") or all_clear
        if not acts and alarm.get("AlarmName") not in covered:
            yield RuleViolation(logical_id, "no action, and not in a composite alarm with one")
