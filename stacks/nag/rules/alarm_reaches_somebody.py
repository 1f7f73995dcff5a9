"""Every alarm has an action, or is part of a composite alarm that has one."""

import re
from collections.abc import Iterator

from stacks.nag.template import Finding, Template, text

REFERENCE = re.compile(r"<[^<>]+>")
KINDS = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")


def check(template: Template) -> Iterator[Finding]:
    """Yields alarms that nobody would hear of."""
    named = {
        reference
        for _, composite in template.of_type("AWS::CloudWatch::CompositeAlarm")
        if composite.get("AlarmActions")
        for reference in REFERENCE.findall(text(composite["AlarmRule"]))
    }
    for logical_id, alarm in template.of_type(*KINDS):
        if not alarm.get("AlarmActions") and not named & {f"<{logical_id}>", f"<{logical_id}.Arn>"}:
            yield Finding(logical_id, "no action, and in no composite with one")
