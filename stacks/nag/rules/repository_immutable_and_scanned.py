"""Image repositories have immutable tags, scan on push, a key, and an end for old images."""

from collections.abc import Iterator

from stacks.nag.template import Finding, Template


def check(template: Template) -> Iterator[Finding]:
    """Yields repositories that lack any of these."""
    for logical_id, repository in template.of_type("AWS::ECR::Repository"):
        checks = {
            "immutable tags": repository.get("ImageTagMutability") == "IMMUTABLE",
            "scan on push": repository.get("ImageScanningConfiguration", {}).get("ScanOnPush"),
            "a key": "KmsKey" in repository.get("EncryptionConfiguration", {}),
            "a lifecycle": "LifecyclePolicy" in repository,
        }
        missing = [name for name, met in checks.items() if not met]
        if missing:
            yield Finding(logical_id, f"without {', '.join(missing)}")
