"""A template must not contain the value of a secret: secrets are generated and filled in later."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield secrets with a value, or without a customer-managed key."""
    for logical_id, secret in template.of_type("AWS::SecretsManager::Secret"):
        if "SecretString" in secret:
            yield RuleViolation(logical_id, "its value is in the template")
        if "KmsKeyId" not in secret:
            yield RuleViolation(logical_id, "no customer-managed key")
