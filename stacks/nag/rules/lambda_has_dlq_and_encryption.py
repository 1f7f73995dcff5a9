"""A function of the platform must have a dead-letter queue, a KMS key and its own log group."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield functions of the platform that lack any of the three."""
    for logical_id, function in template.of_type("AWS::Lambda::Function"):
        if not str(function.get("Description", "")).startswith("Temper:"):
            continue  # a function of CDK's provider framework
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
