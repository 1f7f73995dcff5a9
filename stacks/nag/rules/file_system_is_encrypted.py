"""A Lustre file system must be persistent and encrypted with a customer-managed key."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield scratch file systems and those without a customer-managed key."""
    for logical_id, system in template.of_type("AWS::FSx::FileSystem"):
        if "KmsKeyId" not in system:
            yield RuleViolation(logical_id, "no customer-managed key")
        kind = system.get("LustreConfiguration", {}).get("DeploymentType", "")
        if not kind.startswith("PERSISTENT"):
            yield RuleViolation(logical_id, f"DeploymentType: {kind or 'SCRATCH_1, the default'}")
