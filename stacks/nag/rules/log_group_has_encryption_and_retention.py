"""A log group must have a KMS key and a retention period."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield log groups that lack either."""
    for logical_id, group in template.of_type("AWS::Logs::LogGroup"):
        missing = [name for name in ("KmsKeyId", "RetentionInDays") if name not in group]
        if missing:
            yield RuleViolation(logical_id, f"without {' and '.join(missing)}")
