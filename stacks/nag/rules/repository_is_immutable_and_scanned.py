"""An image repository must have immutable tags, scan on push, a KMS key and a lifecycle policy."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield repositories that lack any of these."""
    for logical_id, repository in template.of_type("AWS::ECR::Repository"):
        checks = {
            "immutable tags": repository.get("ImageTagMutability") == "IMMUTABLE",
            "scan on push": repository.get("ImageScanningConfiguration", {}).get("ScanOnPush"),
            "a key": "KmsKey" in repository.get("EncryptionConfiguration", {}),
            "a lifecycle": "LifecyclePolicy" in repository,
        }
        missing = [name for name, met in checks.items() if not met]
        if missing:
            yield RuleViolation(logical_id, f"without {', '.join(missing)}")
