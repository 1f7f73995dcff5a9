"""A KMS key must rotate, and wait thirty days before it is deleted."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield keys without rotation or with a shorter waiting period."""
    for logical_id, key in template.of_type("AWS::KMS::Key"):
        if key.get("EnableKeyRotation") is not True:
            yield RuleViolation(logical_id, "no rotation")
        if int(key.get("PendingWindowInDays", 30)) < 30:
            yield RuleViolation(logical_id, f"deleted after {key['PendingWindowInDays']} days")
