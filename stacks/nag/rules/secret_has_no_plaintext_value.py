"""No template carries a secret's value: secrets are generated, and filled in later."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yields secrets with a value, or under no key of ours."""
    for logical_id, secret in template.of_type("AWS::SecretsManager::Secret"):
        if "SecretString" in secret:
            yield RuleViolation(logical_id, "its value stands in the template")
        if "KmsKeyId" not in secret:
            yield RuleViolation(logical_id, "no key of ours")
