"""Lustre file systems are persistent and under a key of ours."""

from collections.abc import Iterator

from stacks.nag.template import Finding, Template


def check(template: Template) -> Iterator[Finding]:
    """Yields scratch file systems and those under AWS's key."""
    for logical_id, system in template.of_type("AWS::FSx::FileSystem"):
        if "KmsKeyId" not in system:
            yield Finding(logical_id, "no key of ours")
        kind = system.get("LustreConfiguration", {}).get("DeploymentType", "")
        if not kind.startswith("PERSISTENT"):
            yield Finding(logical_id, f"DeploymentType: {kind or 'SCRATCH_1, the default'}")
