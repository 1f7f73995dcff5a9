"""No template carries a secret's value: secrets are generated, and filled in later."""

from collections.abc import Iterator

from stacks.nag.template import Finding, Template


def check(template: Template) -> Iterator[Finding]:
    """Yields secrets with a value, or under no key of ours."""
    for logical_id, secret in template.of_type("AWS::SecretsManager::Secret"):
        if "SecretString" in secret:
            yield Finding(logical_id, "its value stands in the template")
        if "KmsKeyId" not in secret:
            yield Finding(logical_id, "no key of ours")
