"""Our functions have a dead-letter queue, an encrypted environment and a log group of their own."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yields functions of ours that lose events, or keep settings under AWS's key."""
    for logical_id, function in template.of_type("AWS::Lambda::Function"):
        if not str(function.get("Description", "")).startswith("Temper:"):
            continue  # CDK's provider framework brings functions of its own
        missing = [
            name
            for name, met in {
                "DeadLetterConfig": "DeadLetterConfig" in function,
                "KmsKeyArn": "KmsKeyArn" in function or "Environment" not in function,
                "LoggingConfig": "LogGroup" in function.get("LoggingConfig", {}),
            }.items()
            if not met
        ]
        if missing:
            yield RuleViolation(logical_id, f"without {', '.join(missing)}")
