"""Provisioned throughput must be in a stack with a schedule that undeploys it."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield throughput in a stack without an enabled undeploy schedule."""
    schedules = [
        schedule
        for _, schedule in template.of_type("AWS::Scheduler::Schedule")
        if '"only": "all"' in str(schedule["Target"].get("Input"))
        and schedule.get("State", "ENABLED") == "ENABLED"
    ]
    for logical_id, _ in template.of_type("Custom::ProvisionedThroughput"):
        if not schedules:
            yield RuleViolation(logical_id, "no enabled schedule removes it")
